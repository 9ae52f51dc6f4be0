package directory

import (
	"net/netip"
	"net/url"
	"strings"
)

// Nowhere reports whether a host is that of a listener on all addresses: who dials it
// reaches its own machine, if anything.
func Nowhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().WithZone("").IsUnspecified()
}

// address checks the base URL of a cell.
func (f *fieldErrors) address(at, base string) {
	u, err := url.Parse(base)
	isURL := err == nil && (strings.HasPrefix(base, "http://") || strings.HasPrefix(base, "https://"))
	f.check(isURL, at, "must be an http or https URL")
	f.check(!isURL || !Nowhere(u.Hostname()), at, "must name a host by which others reach the cell")
	f.check(len(base) <= 255 && plain(base), at, "must be at most 255 bytes of printable text")
}
