package guard

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
)

// An Issuer is who signs OIDC tokens that count here.
type Issuer struct {
	Issuer      string             `yaml:"issuer"`       // as the tokens name it: an https URL (http on loopback)
	JWKS        string             `yaml:"jwks"`         // URL of its keys; "" finds it by discovery
	Audience    string             `yaml:"audience"`     // a token must be for it
	Tenant      directory.TenantID `yaml:"tenant"`       // whose all its tokens are; a tenant's own issuer
	TenantClaim string             `yaml:"tenant_claim"` // or: the claim that holds the tenant's slug; an issuer that speaks for all
	Algorithms  []string           `yaml:"algorithms"`   // default RS256 and ES256
	Refresh     time.Duration      `yaml:"refresh"`      // of its keys; 0 is 10m
}

// signing are the algorithms that may be asked for: with public keys only, so
// that a public key can never pass for a shared secret.
var signing = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (is *Issuer) validate() error {
	if err := checkURL(is.Issuer); err != nil {
		return bad("issuer: %s", err)
	}
	if is.JWKS != "" {
		if err := is.checkKeys(is.JWKS); err != nil {
			return bad("jwks: %s", err)
		}
	}
	switch {
	case is.Audience == "":
		return bad("audience is missing")
	case (is.Tenant > 0) == (is.TenantClaim != "") || is.Tenant < 0:
		return bad("exactly one of tenant and tenant_claim is needed")
	case is.Refresh != 0 && (is.Refresh < time.Minute || is.Refresh > 12*time.Hour):
		return bad("refresh must be 1m to 12h")
	}
	for _, a := range is.Algorithms {
		if !slices.Contains(signing, a) {
			return bad("algorithm %q is not one with a public key", a)
		}
	}
	return nil
}

func (is *Issuer) algorithms() []string {
	if len(is.Algorithms) == 0 {
		return []string{"RS256", "ES256"}
	}
	return is.Algorithms
}

func (is *Issuer) refresh() time.Duration {
	if is.Refresh == 0 {
		return 10 * time.Minute
	}
	return is.Refresh
}

// checkURL wants https, or http to this machine.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return bad("%q is not an https URL", s)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !local(u)) {
		return bad("%q is not an https URL", s)
	}
	return nil
}

// checkKeys is checkURL for where the keys are. What a tenant's own issuer says must
// not lead inside: to this machine only from there, and from https to https only.
func (is *Issuer) checkKeys(s string) error {
	if err := checkURL(s); err != nil {
		return err
	}
	keys, err := url.Parse(s)
	if err != nil {
		return err
	}
	from, err := url.Parse(is.Issuer)
	switch {
	case err != nil:
		return err
	case from.Scheme == "https" && keys.Scheme != "https":
		return bad("%q is not an https URL, and the issuer is one", s)
	case local(keys) && !local(from):
		return bad("%q is on this machine, and the issuer is not", s)
	}
	return nil
}

// local reports whether u says by itself that it is of this machine.
func local(u *url.URL) bool {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ofThisMachine(addr)
}

func ofThisMachine(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified()
}
