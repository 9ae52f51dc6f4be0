package guard

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

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

// TestCompressedKeysAreNotTaken: nobody asks for them, and what comes all the same is not
// decompressed, whatever a few bytes of it may become (X21).
func TestCompressedKeysAreNotTaken(t *testing.T) {
	t.Parallel()
	known, err := json.Marshal(public("k", &curveKey(t).PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked := r.Header.Get("Accept-Encoding"); asked != "" {
			t.Errorf("asked for %q", asked)
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprintf(z, `{"keys":[%s]}`, known)
		_ = z.Close() // the client may have left
	}))
	t.Cleanup(srv.Close)
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, jwks: %q, audience: cellway, tenant_claim: org}]", srv.URL, srv.URL))
	for _, by := range []*http.Client{fetcher, newFetcher(newDirect())} {
		if tr, ok := by.Transport.(direct); ok {
			tr.DialContext = nil // the server is on this machine
		}
		var set map[string]any
		if err := get(t.Context(), by, srv.URL, &set); err == nil {
			t.Errorf("got %v", set)
		}
	}
	if ks, err := g.rules.Load().issuers[srv.URL].fetch(t.Context(), time.Now()); err == nil {
		t.Errorf("got %+v", ks)
	}
}

// curveKey makes a key of P-256.
func curveKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeysOfAnIssuerAreBounded: what is left out is said once, and proves nothing.
func TestKeysOfAnIssuerAreBounded(t *testing.T) {
	t.Parallel()
	first, last, small := curveKey(t), curveKey(t), weakKey(t)
	keys := []jose.JSONWebKey{public("first", &first.PublicKey), public("small", &small.PublicKey), public("huge", hugeKey())}
	for i := range mostKeys - 1 {
		keys = append(keys, public(fmt.Sprint(i), &curveKey(t).PublicKey))
	}
	is := newIssuer(t, append(keys, public("last", &last.PublicKey), public("more", &last.PublicKey))...)
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant_claim: org}]", is.URL))
	var out bytes.Buffer
	for range 3 {
		g.rules.Load().issuers[is.URL].runOnce(t.Context(), time.Now(), slog.New(slog.NewTextHandler(&out, nil)))
	}
	if n := strings.Count(out.String(), "left_out=4"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, &out)
	}
	if _, err := g.Verify(sign(t, jose.ES256, "first", first, claims(is)), "GET", "/", time.Now()); err != nil {
		t.Error(err)
	}
	for kid, bearer := range map[string]string{
		"last": sign(t, jose.ES256, "last", last, claims(is)), "small": sign(t, jose.RS256, "small", small, claims(is)),
	} {
		if _, err := g.Verify(bearer, "GET", "/", time.Now()); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%s: got %v", kid, err)
		}
	}
}

// weakKey makes an RSA key of 1024 bits.
func weakKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hugeKey is an RSA key whose signatures fit into a token, and take a second to check.
func hugeKey() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 64<<10)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 1<<31 - 1}
}

// TestATokenIsTriedWithFewKeys: those that may have signed it, by its algorithm and the keys'
// own, and where those are more, none: who shows tokens that are not signed at all has no
// more work done than that.
func TestATokenIsTriedWithFewKeys(t *testing.T) {
	t.Parallel()
	forRS, forPS := rsaKey(t), rsaKey(t)
	curves := []*ecdsa.PrivateKey{curveKey(t), curveKey(t), curveKey(t), curveKey(t), curveKey(t)}
	stranger, other := curveKey(t), rsaKey(t)
	of := func(key jose.JSONWebKey, alg jose.SignatureAlgorithm) jose.JSONWebKey {
		key.Algorithm = string(alg)
		return key
	}
	keys := []jose.JSONWebKey{of(public("rs", &forRS.PublicKey), jose.RS256), of(public("ps", &forPS.PublicKey), jose.PS256)}
	for i, key := range curves {
		keys = append(keys, public(fmt.Sprint("e", i), &key.PublicKey), public("same", &key.PublicKey))
	}
	for range 3 {
		keys = append(keys, public("three", &curveKey(t).PublicKey))
	}
	keys = append(keys, public("three", &curves[0].PublicKey))
	is := newIssuer(t, keys...)
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant_claim: org, algorithms: [RS256, PS256, ES256, RS256]}]", is.URL))
	fetchAll(t, g)
	for _, tt := range []struct {
		alg jose.SignatureAlgorithm
		kid string
		key any
		ok  bool
		n   float64 // signatures that are checked
	}{
		{jose.RS256, "rs", forRS, true, 1},
		{jose.RS256, "", forRS, true, 1},
		{jose.PS256, "", forPS, true, 1},
		{jose.RS256, "", other, false, 1},
		{jose.PS256, "rs", forRS, false, 0}, // which is for the other algorithm
		{jose.ES256, "rs", stranger, false, 0},
		{jose.RS512, "rs", forRS, false, 0},
		{jose.ES256, "e4", curves[4], true, 1},
		{jose.ES256, "e4", stranger, false, 1},
		{jose.ES256, "three", curves[0], true, 4},
		{jose.ES256, "three", stranger, false, 4},
		{jose.ES256, "same", curves[0], false, 0}, // five
		{jose.ES256, "", curves[0], false, 0},     // more than five
		{jose.ES256, "", stranger, false, 0},
	} {
		before := testutil.ToFloat64(g.metrics.checked)
		_, err := g.Verify(sign(t, tt.alg, tt.kid, tt.key, claims(is)), "GET", "/", time.Now())
		if n := testutil.ToFloat64(g.metrics.checked) - before; (err == nil) != tt.ok || err != nil && !errors.Is(err, problem.Unauthenticated) || n != tt.n {
			t.Errorf("%s by %q: got %v and %v signatures checked, want ok %v and %v", tt.alg, tt.kid, err, n, tt.ok, tt.n)
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
