package guard

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
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

// A testIssuer is a real one on this machine: discovery, and the keys it is given.
type testIssuer struct {
	*httptest.Server
	keys    atomic.Pointer[jose.JSONWebKeySet]
	name    string // what discovery says; "" is its URL
	dead    atomic.Bool
	fetched atomic.Int32
}

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *testIssuer {
	t.Helper()
	is := &testIssuer{}
	is.keys.Store(&jose.JSONWebKeySet{Keys: keys})
	is.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if is.dead.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if r.URL.Path == "/.well-known/openid-configuration" {
			name := is.name
			if name == "" {
				name = is.URL
			}
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, name, is.URL+"/keys")
			return
		}
		is.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(is.keys.Load()) // the client is the test
	}))
	t.Cleanup(is.Close)
	return is
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(id string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"}
}

// sign makes a JWT.
func sign(t *testing.T, alg jose.SignatureAlgorithm, kid string, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claims(is *testIssuer, more ...any) map[string]any {
	c := map[string]any{"iss": is.URL, "aud": "cellway", "sub": "ann", "org": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(more); i += 2 {
		c[more[i].(string)] = more[i+1]
	}
	return c
}

// fetchAll fetches every issuer's keys once.
func fetchAll(t *testing.T, g *Guard) {
	t.Helper()
	for _, is := range g.rules.Load().issuers {
		is.runOnce(t.Context(), time.Now(), slog.New(slog.DiscardHandler))
	}
}

func TestJWT(t *testing.T) {
	t.Parallel()
	key, other := rsaKey(t), rsaKey(t)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("a symmetric key that an issuer should never publish")
	is := newIssuer(t, public("r", &key.PublicKey), public("e", &curve.PublicKey), public("s", secret), public("two", &curve.PublicKey), public("two", &key.PublicKey))
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant_claim: org}]", is.URL))
	fetchAll(t, g)
	for name, bearer := range map[string]string{
		"RS256":  sign(t, jose.RS256, "r", key, claims(is)),
		"ES256":  sign(t, jose.ES256, "e", curve, claims(is)),
		"no kid": sign(t, jose.RS256, "", key, claims(is)),

		"RS256 by a name of two keys": sign(t, jose.RS256, "two", key, claims(is)),
		"ES256 by a name of two keys": sign(t, jose.ES256, "two", curve, claims(is)),
		"one audience of several":     sign(t, jose.RS256, "r", key, claims(is, "aud", []string{"other", "cellway"})),
	} {
		for range 2 { // the second time it is remembered
			b, err := g.Verify(bearer, "GET", "/", time.Now())
			if err != nil || !b.Known || b.Slug != "acme" || b.Subject != "ann" || b.Tenant != 0 || b.Expires < time.Now().Add(time.Hour-time.Minute).Unix() {
				t.Errorf("%s: got %+v, %v", name, b, err)
			}
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Split(sign(t, jose.RS256, "r", key, claims(is)), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"r"}`))
	lower := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE"}`))
	for name, bearer := range map[string]string{
		"alg none":                        none + "." + good[1] + ".",
		"alg none, the signature kept":    lower + "." + good[1] + "." + good[2],
		"HS256 with the public key":       sign(t, jose.HS256, "r", spki, claims(is)),
		"HS256 with a published secret":   sign(t, jose.HS256, "s", secret, claims(is)),
		"HS256 without kid":               sign(t, jose.HS256, "", spki, claims(is)),
		"an algorithm that is not asked":  sign(t, jose.RS512, "r", key, claims(is)),
		"another key under the same name": sign(t, jose.RS256, "r", other, claims(is)),
		"another key, a name of two":      sign(t, jose.RS256, "two", other, claims(is)),
		"several other audiences":         sign(t, jose.RS256, "r", key, claims(is, "aud", []string{"other", "cellway2"})),
		"the name of another kind of key": sign(t, jose.RS256, "e", key, claims(is)),
		"another audience":                sign(t, jose.RS256, "r", key, claims(is, "aud", "other")),
		"no audience":                     sign(t, jose.RS256, "r", key, claims(is, "aud", nil)),
		"another issuer":                  sign(t, jose.RS256, "r", key, claims(is, "iss", "https://evil.test")),
		"expired":                         sign(t, jose.RS256, "r", key, claims(is, "exp", time.Now().Add(-time.Second).Unix())),
		"no expiry":                       sign(t, jose.RS256, "r", key, claims(is, "exp", nil)),
		"not yet":                         sign(t, jose.RS256, "r", key, claims(is, "nbf", time.Now().Add(time.Hour).Unix())),
		"no tenant":                       sign(t, jose.RS256, "r", key, claims(is, "org", nil)),
		"a tenant that is no slug":        sign(t, jose.RS256, "r", key, claims(is, "org", strings.Repeat("a", 41))),
		"a subject that is too long":      sign(t, jose.RS256, "r", key, claims(is, "sub", strings.Repeat("a", 256))),
		"a tenant that is a list":         sign(t, jose.RS256, "r", key, claims(is, "org", []string{"acme"})),
		"a changed claim":                 good[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"iss":%q,"org":"bolt"}`, is.URL))) + "." + good[2],
	} {
		if b, err := g.Verify(bearer, "GET", "/", time.Now()); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%s: got %+v, %v", name, b, err)
		}
	}
	for _, bearer := range []string{"", "abc", "a.b.c", "eyJ.x.y", strings.Repeat("eyJ", 1<<14)} {
		if b, err := g.Verify(bearer, "GET", "/", time.Now()); b.Known || err != nil {
			t.Errorf("%.20q: got %+v, %v, want it to be nobody's", bearer, b, err)
		}
	}
	remembered := sign(t, jose.RS256, "r", key, claims(is, "exp", time.Now().Add(time.Minute).Unix()))
	if _, err := g.Verify(remembered, "GET", "/", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Verify(remembered, "GET", "/", time.Now().Add(2*time.Minute)); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("a remembered token that has expired: got %v", err)
	}
}

// TestRecall: what is remembered of a token counts for as long as Verify would say
// the same, and costs nothing; of what it is not sure it leaves to Verify.
func TestRecall(t *testing.T) {
	t.Parallel()
	key, other := rsaKey(t), rsaKey(t)
	first, second := public("r", &key.PublicKey), public("s", &other.PublicKey)
	is := newIssuer(t, first, second)
	policy := fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant_claim: org}]", is.URL)
	g := newGuard(t, policy)
	fetchAll(t, g)
	now := time.Now()
	bearer := sign(t, jose.RS256, "r", key, claims(is))
	sure := func(at time.Time) bool { _, sure := g.Recall(bearer, at); return sure }
	verify := func() {
		t.Helper()
		if _, err := g.Verify(bearer, "GET", "/", now); err != nil {
			t.Fatal(err)
		}
		if b, sure := g.Recall(bearer, now); !sure || !b.Known || b.Slug != "acme" || b.Subject != "ann" {
			t.Fatalf("got %+v, %v", b, sure)
		}
	}
	if sure(now) {
		t.Error("it is sure of what nobody has verified")
	}
	verify()
	if sure(now.Add(2 * time.Hour)) {
		t.Error("it is sure of a token that has expired")
	}
	for _, other := range []string{"abc", "a.b.c", "cwt1.x"} {
		if b, sure := g.Recall(other, now); !sure || b.Known {
			t.Errorf("%s: got %+v, %v, want it to be nobody's", other, b, sure)
		}
	}
	if _, sure := g.Recall(bearer[:len(bearer)-1], now); sure {
		t.Error("it is sure of a token that was cut")
	}
	for _, same := range [][]jose.JSONWebKey{{first, second}, {second, first}} {
		is.keys.Store(&jose.JSONWebKeySet{Keys: same})
		fetchAll(t, g)
		if !sure(now) {
			t.Error("it is not sure of a token though its issuer's keys are the same")
		}
	}
	is.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{first}})
	fetchAll(t, g)
	if sure(now) {
		t.Error("it is sure of a token whose issuer has other keys")
	}
	verify()
	for _, changed := range []string{strings.Replace(policy, "audience: cellway", "audience: other", 1), ""} {
		p, err := Parse([]byte(changed))
		if err == nil {
			err = g.Use(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := g.Recall(bearer, now); b.Known {
			t.Errorf("by the policy %q it is still %+v", changed, b)
		}
		if n := len(g.known.all); n != 0 {
			t.Errorf("by the policy %q %d tokens are kept", changed, n)
		}
	}
}

// TestRecallTooOld: keys that are not believed any more prove nothing.
func TestRecallTooOld(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is := newIssuer(t, public("r", &key.PublicKey))
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", is.URL))
	fetchAll(t, g)
	bearer := sign(t, jose.RS256, "r", key, claims(is, "exp", time.Now().Add(3*keysLast).Unix()))
	if _, err := g.Verify(bearer, "GET", "/", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, sure := g.Recall(bearer, time.Now().Add(keysLast/2)); !sure {
		t.Error("it is not sure while the keys last")
	}
	if _, sure := g.Recall(bearer, time.Now().Add(keysLast+time.Minute)); sure {
		t.Error("it is sure when the keys are too old")
	}
	g.rules.Load().issuers[is.URL].runOnce(t.Context(), time.Now().Add(keysLast/2), slog.New(slog.DiscardHandler))
	if _, sure := g.Recall(bearer, time.Now().Add(keysLast+time.Minute)); !sure {
		t.Error("it is not sure though the same keys were fetched since")
	}
}

// TestIssuerOfOneTenant: whatever a tenant's own issuer says, its tokens are that
// tenant's.
func TestIssuerOfOneTenant(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is := newIssuer(t, public("r", &key.PublicKey))
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, jwks: %q, audience: cellway, tenant: 7}]", is.URL, is.URL+"/keys"))
	fetchAll(t, g)
	b, err := g.Verify(sign(t, jose.RS256, "r", key, claims(is, "tenant", "bolt", "tid", 9)), "GET", "/", time.Now())
	if err != nil || b.Tenant != 7 || b.Slug != "" {
		t.Errorf("got %+v, %v, want tenant 7", b, err)
	}
}

// TestIssuerDead: without keys a route is closed unless it says otherwise; keys
// that were fetched once outlive the issuer.
func TestIssuerDead(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is := newIssuer(t, public("r", &key.PublicKey))
	is.dead.Store(true)
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]\nroutes: [{name: pub, prefix: /public, auth: open}, {name: in, prefix: /in, auth: closed}]", is.URL))
	fetchAll(t, g)
	bearer := sign(t, jose.RS256, "r", key, claims(is))
	var e *problem.Error
	for _, path := range []string{"/x", "/t/acme/in"} {
		if b, err := g.Verify(bearer, "GET", path, time.Now()); !errors.As(err, &e) || e.Kind != problem.Unavailable || e.RetryAfter == 0 || b.Waived {
			t.Errorf("%s, closed: got %+v, %v", path, b, err)
		}
	}
	if b, err := g.Verify(bearer, "GET", "/t/acme/public/x", time.Now()); err != nil || !b.Waived || b.Tenant != 0 {
		t.Errorf("open: got %+v, %v, want it waived and nobody's", b, err)
	}
	is.dead.Store(false)
	fetchAll(t, g)
	is.dead.Store(true)
	fetchAll(t, g)
	if b, err := g.Verify(bearer, "GET", "/x", time.Now()); err != nil || b.Tenant != 7 {
		t.Errorf("with the keys of before: got %+v, %v", b, err)
	}
	if _, err := g.Verify(bearer, "GET", "/x", time.Now().Add(keysLast+time.Minute)); !errors.Is(err, problem.Unavailable) {
		t.Errorf("with keys that are too old: got %v", err)
	}
}

// TestReadyWithTheIssuersKeys, and without those of one that does not answer in time.
func TestReadyWithTheIssuersKeys(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is, dead := newIssuer(t, public("r", &key.PublicKey)), newIssuer(t)
	if err := newGuard(t, "").Ready(t.Context()); err != nil {
		t.Errorf("without issuers: %v", err)
	}
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", is.URL))
	if err := g.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), is.URL) {
		t.Errorf("before the first fetch: got %v", err)
	}
	fetchAll(t, g)
	if err := g.Ready(t.Context()); err != nil {
		t.Errorf("with keys: %v", err)
	}
	g = newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", dead.URL))
	fetchAll(t, g)
	if g.Ready(t.Context()) == nil {
		t.Error("an issuer without keys was not waited for")
	}
	g.began = g.began.Add(-firstKeys)
	if err := g.Ready(t.Context()); err != nil {
		t.Errorf("after long enough: %v", err)
	}
}

// TestIssuerRotates: a token that names a key which is not there makes the keys
// be fetched, and forged ones cannot make that happen often.
func TestIssuerRotates(t *testing.T) {
	t.Parallel()
	first, second := rsaKey(t), rsaKey(t)
	is := newIssuer(t, public("1", &first.PublicKey))
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", is.URL))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.FetchKeys(ctx, slog.New(slog.DiscardHandler)) }()
	wait := func(bearer string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			_, err := g.Verify(bearer, "GET", "/", time.Now())
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond) // the pause of a poll with a deadline
		}
	}
	wait(sign(t, jose.RS256, "1", first, claims(is)))
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	one := g.rules.Load().issuers[is.URL]
	is.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("2", &second.PublicKey)}})
	fresh := sign(t, jose.RS256, "2", second, claims(is))
	if _, err := g.Verify(fresh, "GET", "/", time.Now()); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("before the keys are fetched: got %v", err)
	}
	if now := time.Now(); one.mustFetch(now) || !one.mustFetch(now.Add(refetch+time.Second)) {
		t.Error("an unknown key does not make the keys due after a while, or does at once")
	}
	fetchAll(t, g)
	if one.mustFetch(time.Now().Add(refetch + time.Second)) {
		t.Error("the keys are still due")
	}
	if _, err := g.Verify(fresh, "GET", "/", time.Now()); err != nil {
		t.Errorf("after they were fetched: %v", err)
	}
	if _, err := g.Verify(sign(t, jose.RS256, "1", first, claims(is)), "GET", "/", time.Now()); err == nil {
		t.Error("a key that is gone still counts")
	}
	if err := g.Use(Policy{Issuers: []Issuer{{Issuer: is.URL, Audience: "cellway", Tenant: 7}}}); err != nil {
		t.Fatal(err)
	}
	if g.rules.Load().issuers[is.URL] != one {
		t.Error("a policy that says the same of an issuer forgets its keys")
	}
}

// TestAChangedIssuerKeepsItsKeys, and judges by what it says now; one whose keys are
// elsewhere has none.
func TestAChangedIssuerKeepsItsKeys(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is := newIssuer(t, public("r", &key.PublicKey))
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", is.URL))
	fetchAll(t, g)
	for _, tt := range []struct {
		changed Issuer
		want    error
	}{
		{Issuer{Audience: "cellway", Tenant: 7, Refresh: time.Hour}, nil},
		{Issuer{Audience: "other", Tenant: 7}, problem.Unauthenticated},
		{Issuer{Audience: "cellway", Tenant: 7, Algorithms: []string{"ES256"}}, problem.Unauthenticated},
		{Issuer{Audience: "cellway", Tenant: 8}, nil},
		{Issuer{Audience: "cellway", Tenant: 8, JWKS: is.URL + "/others"}, problem.Unavailable},
	} {
		tt.changed.Issuer = is.URL
		if err := g.Use(Policy{Issuers: []Issuer{tt.changed}}); err != nil {
			t.Fatal(err)
		}
		for _, kid := range []string{"r", ""} {
			b, err := g.Verify(sign(t, jose.RS256, kid, key, claims(is)), "GET", "/", time.Now())
			if !errors.Is(err, tt.want) || err == nil && b.Tenant != tt.changed.Tenant {
				t.Errorf("%+v: got %+v, %v, want %v", tt.changed, b, err, tt.want)
			}
		}
	}
	if !g.rules.Load().issuers[is.URL].mustFetch(time.Now()) {
		t.Error("the keys of a changed issuer are not fetched")
	}
}

// TestDiscoveryMustNameTheIssuer: what a wrong answer of discovery says is not believed.
func TestDiscoveryMustNameTheIssuer(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	is := newIssuer(t, public("r", &key.PublicKey))
	is.name = "https://other.test"
	g := newGuard(t, fmt.Sprintf("issuers: [{issuer: %q, audience: cellway, tenant: 7}]", is.URL))
	fetchAll(t, g)
	if _, err := g.Verify(sign(t, jose.RS256, "r", key, claims(is)), "GET", "/", time.Now()); !errors.Is(err, problem.Unavailable) || is.fetched.Load() != 0 {
		t.Errorf("got %v after %d fetches of keys", err, is.fetched.Load())
	}
}

func TestIssuersRefused(t *testing.T) {
	t.Parallel()
	for issuer, want := range map[string]string{
		"issuer: 'http://idp.test', audience: a, tenant: 1":                           "https",
		"issuer: 'https://u:p@idp.test', audience: a, tenant: 1":                      "https",
		"issuer: 'https://idp.test', jwks: 'http://idp.test', audience: a, tenant: 1": "jwks",
		"issuer: 'https://idp.test', tenant: 1":                                       "audience",
		"issuer: 'https://idp.test', audience: a":                                     "tenant",
		"issuer: 'https://idp.test', audience: a, tenant: 1, tenant_claim: org":       "tenant",
		"issuer: 'https://idp.test', audience: a, tenant: 1, algorithms: [HS256]":     "HS256",
		"issuer: 'https://idp.test', audience: a, tenant: 1, algorithms: [none]":      "none",
		"issuer: 'https://idp.test', audience: a, tenant: 1, refresh: 1s":             "refresh",
	} {
		if _, err := Parse([]byte("issuers: [{" + issuer + "}]")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", issuer, err, want)
		}
	}
}
