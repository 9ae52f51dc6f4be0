package guard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cellway/cellway/infra/problem"
)

// TestAKeyOfAnUnknownKindSpoilsNoOther: an issuer may publish keys that nobody here
// knows beside those that it signs with.
func TestAKeyOfAnUnknownKindSpoilsNoOther(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	known, err := json.Marshal(public("r", &key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, odd := range map[string]string{
		"Ed448":     `{"kty":"OKP","crv":"Ed448","kid":"x","use":"sig","x":"AAAA"}`,
		"X25519":    `{"kty":"OKP","crv":"X25519","kid":"x","use":"enc","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}`,
		"secp256k1": `{"kty":"EC","crv":"secp256k1","kid":"x","use":"sig","x":"AAAA","y":"AAAA"}`,
		"future":    `{"kty":"XYZ","kid":"x"}`,
		"RSA 8192":  fmt.Sprintf(`{"kty":"RSA","kid":"x","e":"AQAB","n":%q}`, strings.Repeat("_", 1365)),
		"no object": `7`,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s,%s]}`, odd, known) }))
		t.Cleanup(srv.Close)
		g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, jwks: %q, audience: cellway, tenant_claim: org}]", srv.URL, srv.URL))
		fetchAll(t, g)
		bearer := sign(t, jose.RS256, "r", key, claims(&testIssuer{Server: srv}))
		if b, err := g.Verify(bearer, "GET", "/", time.Now()); err != nil || b.Slug != "acme" {
			t.Errorf("%s: got %+v, %v", name, b, err)
		}
	}
}

// TestKeysOfAnIssuerAreBounded: a token that names none is tried with so many at most,
// those among them that can have signed it; what is left out is said once.
func TestKeysOfAnIssuerAreBounded(t *testing.T) {
	t.Parallel()
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, other, last, key := curve(elliptic.P256()), curve(elliptic.P384()), curve(elliptic.P256()), rsaKey(t)
	keys := []jose.JSONWebKey{public("first", &first.PublicKey), public("p384", &other.PublicKey), public("r", &key.PublicKey)}
	for i := len(keys); i < mostKeys; i++ {
		keys = append(keys, public(fmt.Sprint(i), &curve(elliptic.P256()).PublicKey))
	}
	is := newIssuer(t, append(keys, public("last", &last.PublicKey), public("more", &last.PublicKey))...)
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant_claim: org, algorithms: [ES256]}]", is.URL))
	var out bytes.Buffer
	for range 3 {
		g.rules.Load().issuers[is.URL].runOnce(t.Context(), time.Now(), slog.New(slog.NewTextHandler(&out, nil)))
	}
	if n := strings.Count(out.String(), "left_out=2"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, &out)
	}
	if n := len(g.rules.Load().issuers[is.URL].keys.Load().byID); n != mostKeys-2 {
		t.Errorf("%d keys are tried, want %d", n, mostKeys-2)
	}
	for _, kid := range []string{"", "first"} {
		if _, err := g.Verify(sign(t, jose.ES256, kid, first, claims(is)), "GET", "/", time.Now()); err != nil {
			t.Errorf("kid %q of the first: %v", kid, err)
		}
	}
	for _, kid := range []string{"", "last"} {
		if _, err := g.Verify(sign(t, jose.ES256, kid, last, claims(is)), "GET", "/", time.Now()); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("kid %q of one too many: got %v", kid, err)
		}
	}
}

// TestDiscoveryDoesNotLeadInside: what an issuer elsewhere says makes a router call
// nothing of its own machine, and nothing without TLS.
func TestDiscoveryDoesNotLeadInside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		issuer, keys string
		ok           bool
	}{
		{"https://idp.test", "https://idp.test/keys", true},
		{"https://idp.test", "https://keys.test/", true},
		{"https://idp.test", "http://keys.test/", false},
		{"https://idp.test", "http://127.0.0.1:7101/", false},
		{"https://idp.test", "https://127.0.0.1:7101/", false},
		{"https://idp.test", "https://127.9.9.9/", false},
		{"https://idp.test", "https://[::1]/", false},
		{"https://idp.test", "https://[::ffff:127.0.0.1]/", false},
		{"https://idp.test", "https://0.0.0.0/", false},
		{"https://idp.test", "https://[::]/", false},
		{"https://idp.test", "https://LOCALHOST./", false},
		{"https://idp.test", "https://idp.localhost/", false},
		{"https://idp.test", "file:///etc/passwd", false},
		{"https://localhost", "https://127.0.0.1/", true},
		{"https://localhost", "http://127.0.0.1/", false},
		{"http://localhost:8080", "http://127.0.0.1:8080/", true},
		{"http://localhost:8080", "https://keys.test/", true},
	} {
		if err := (&Issuer{Issuer: tt.issuer}).checkKeys(tt.keys); (err == nil) != tt.ok {
			t.Errorf("%s to %s: got %v", tt.issuer, tt.keys, err)
		}
		if err := (&Issuer{Issuer: tt.issuer, JWKS: tt.keys, Audience: "a", Tenant: 1}).validate(); (err == nil) != tt.ok {
			t.Errorf("%s to %s, in a policy: got %v", tt.issuer, tt.keys, err)
		}
	}
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(inside.Close)
	is := &issuer{Issuer: Issuer{Issuer: "https://idp.test"}}
	for _, host := range []string{"127.0.0.1", "localhost"} { // as a name would lead there
		at := "http://" + host + inside.URL[strings.LastIndexByte(inside.URL, ':'):]
		if err := get(t.Context(), is.follower(at), at, new(any)); err == nil || !strings.Contains(err.Error(), "this machine") || asked.Load() != 0 {
			t.Errorf("%s: got %v, asked %d times", at, err, asked.Load())
		}
	}
	if is.follower("https://idp.test/keys") != fetcher {
		t.Error("an issuer whose name is of this machine is not asked for its keys")
	}
}
