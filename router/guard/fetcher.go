package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

// plain asks for nothing that is compressed, and undoes no compression.
var plain = newPlain()

// fetcher follows no redirect: keys come from where the policy says.
var fetcher = newFetcher(plain)

// outside is fetcher for what an issuer elsewhere names: no name leads it to this machine.
var outside = newFetcher(newDirect())

func newPlain() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() // nobody replaces it here
	t.DisableCompression = true
	return t
}

func newFetcher(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       fetchTimeout,
	}
}

// follower is who fetches the keys that discovery has found.
func (is *issuer) follower(keys string) *http.Client {
	from, err := url.Parse(is.Issuer.Issuer)
	if err != nil {
		return outside
	}
	to, err := url.Parse(keys)
	if err == nil && (local(from) || from.Hostname() == to.Hostname()) {
		return fetcher
	}
	return outside
}

// A direct does not connect to this machine. Where the environment names a proxy, that
// is who connects, and may be here.
type direct struct{ *http.Transport }

func newDirect() direct {
	t := plain.Clone()
	t.Proxy = nil
	t.DialContext = (&net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); err != nil || ofThisMachine(at.Addr()) {
			return fmt.Errorf("%s is on this machine, and the issuer is not", address)
		}
		return nil
	}}).DialContext
	return direct{t}
}

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if proxy, err := http.ProxyFromEnvironment(r); proxy != nil || err != nil {
		return plain.RoundTrip(r)
	}
	return d.Transport.RoundTrip(r)
}

func get(ctx context.Context, by *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := by.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", url, resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxJWKS)).Decode(into)
}
