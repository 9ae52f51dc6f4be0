package directory

import (
	"slices"
	"strconv"
	"time"
)

// MostChanges bounds a roll-out: all of its changes come to be in one transaction,
// whose last step keeps every other change of the table waiting.
const MostChanges = 1000

const (
	defaultSoak     = time.Minute
	defaultRequests = 100
	defaultMargin   = 0.02
	longestSoak     = 24 * time.Hour
)

// Validate reports what is wrong with a roll-out as it is asked for.
func (n NewRollout) Validate() error {
	var bad fieldErrors
	bad.check(len(n.Changes) > 0 && len(n.Changes) <= MostChanges, "/changes", "must be 1 to "+strconv.Itoa(MostChanges))
	bad.check(n.Why != "" && len(n.Why) <= 200 && plain(n.Why), "/why", "must be 1 to 200 bytes of printable text")
	bad.check(n.Soak >= 0 && n.Soak <= longestSoak, "/soak", "must be 0 to 24 hours, in nanoseconds")
	bad.check(valueOf(n.Requests) >= 0, "/requests", "must not be negative")
	bad.check(valueOf(n.Margin) >= 0 && valueOf(n.Margin) <= 1, "/margin", "must be 0 to 1")
	seen, holders := map[string]bool{}, map[string]TenantID{}
	for i, c := range n.Changes {
		at := "/changes/" + strconv.Itoa(i)
		bad.check((c.Cell == "") != (c.Tenant <= 0), at, "must name a cell or a tenant")
		bad.check(!seen[c.Subject()], at, "names "+c.Subject()+" twice")
		seen[c.Subject()] = true
		if c.Cell != "" {
			bad.check(c.Suspended == nil && c.Hosts == nil, at, "cannot suspend or name a cell")
			bad.address(at+"/address", c.Address)
			continue
		}
		bad.check(c.Address == "", at+"/address", "is a cell's")
		bad.check(c.Suspended != nil || c.Hosts != nil, at, "changes nothing")
		var hosts fieldErrors
		hosts.hosts(valueOf(c.Hosts))
		for _, h := range hosts {
			bad.check(false, at+h.Pointer, h.Detail)
		}
		for j, h := range valueOf(c.Hosts) {
			other, taken := holders[h]
			bad.check(!taken || other == c.Tenant, at+"/hosts/"+strconv.Itoa(j), "is given to tenant "+other.String()+", too")
			holders[h] = c.Tenant
		}
	}
	return bad.err("roll-out")
}

// Subject is who is changed, as in the audit.
func (c RolloutChange) Subject() string {
	if c.Cell != "" {
		return "cell/" + string(c.Cell)
	}
	return "tenant/" + c.Tenant.String()
}

// Is reports whether now has all that c names. Hosts are sorted.
func (c RolloutChange) Is(now RolloutChange) bool {
	return c.Cell == now.Cell && c.Address == now.Address && c.Tenant == now.Tenant &&
		(c.Suspended == nil || *c.Suspended == valueOf(now.Suspended)) &&
		(c.Hosts == nil || slices.Equal(*c.Hosts, valueOf(now.Hosts)))
}
