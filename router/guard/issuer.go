package guard

import (
	"net/netip"
	"net/url"
	"slices"
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
		if err := checkURL(is.JWKS); err != nil {
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
	addr, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return bad("%q is not an https URL", s)
	}
	return nil
}
