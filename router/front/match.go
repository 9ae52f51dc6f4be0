package front

import "strings"

// Match reports whether a connection that was opened for one name may carry a
// request for a host: both must have the same certificate. Another certificate
// may be another tenant's, with other rules.
//
// covering is the certificate for a host, false where there is none.
func Match(name, host string, covering func(host string) (string, bool)) bool {
	host = bare(host)
	if name == host {
		return true
	}
	one, ok := covering(name)
	other, also := covering(host)
	return ok && also && one == other
}

// bare is a host without its port and the brackets of an address.
func bare(host string) string {
	if inner, _, ok := strings.Cut(strings.TrimPrefix(host, "["), "]"); ok {
		return inner
	}
	host, _, _ = strings.Cut(host, ":")
	return host
}
