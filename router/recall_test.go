package router_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/pool"
)

// An authWorld is a router that wants to know who asks, and acme's credentials.
type authWorld struct {
	*world
	options *router.Options
	ring    token.Ring
	later   atomic.Int64 // what its clock is ahead
	token   string       // for an hour
	key     string       // for an hour
	record  directory.Key
	claims  token.Claims // the token's
}

func newAuthWorld(tb testing.TB, change func(*router.Options)) *authWorld {
	tb.Helper()
	if engine == "std" {
		tb.Skip("it has no direct way")
	}
	a := newAuthWorldOn(tb, engine, nil, change)
	a.apply(directory.Update{Version: 2, Since: 1, Cells: []directory.CellRoute{{ID: "c1", Address: cellOf(tb, smallAnswer), State: directory.Ready}}})
	return a
}

func newAuthWorldOn(tb testing.TB, engine string, cells map[directory.CellID]http.Handler, change func(*router.Options)) *authWorld {
	tb.Helper()
	a := &authWorld{}
	a.world = newWorldOn(tb, engine, cells, func(o *router.Options, _ *pool.Limits) {
		o.Chain.Ring, o.AuthRequired = &a.ring, true
		o.Chain.Now = func() time.Time { return time.Now().Add(time.Duration(a.later.Load())) }
		o.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
		if change != nil {
			change(o)
		}
		a.options = o
	})
	var err error
	if a.token, err = a.tokens.Issue(token.Claims{Kind: token.Tenant, Tenant: 1, Subject: "ann"}, time.Now(), time.Hour); err != nil {
		tb.Fatal(err)
	}
	a.claims, _ = token.Inspect(a.token)
	a.key, a.record = token.NewAPIKey()
	a.record.Tenant, a.record.ExpiresAt = 1, time.Now().Add(time.Hour)
	a.credentials(directory.Credentials{Version: 1, Keys: []directory.Key{a.record}})
	return a
}

func (a *authWorld) credentials(c directory.Credentials) {
	a.tb.Helper()
	if err := a.ring.Apply(c); err != nil {
		a.tb.Fatal(err)
	}
}

// as is the usual request with a bearer, for acme's host if there is no other.
func as(bearer, host, more string) string {
	if host == "" {
		host = "acme"
	}
	return strings.Replace(strings.Replace(usual, "\r\n\r\n", "\r\nAuthorization: Bearer "+bearer+"\r\n"+more+"\r\n", 1), "acme.", host+".", 1)
}

// TestAuthenticatedRequestAllocatesNothing: with a tenant's token, an API key and
// an issuer's token, with limits, metrics and the assertion on.
func TestAuthenticatedRequestAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("with the race detector, pools allocate")
	}
	signer, issuer := newSigner(t)
	policy, err := guard.Parse([]byte("tiers: {default: {requests: 1000000, window: 1s, concurrent: 100}}\nclients: {requests: 1000000, window: 1s}\n" +
		"issuers: [{issuer: '" + issuer + "', jwks: '" + issuer + "', audience: cellway, tenant_claim: org}]"))
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthWorld(t, func(o *router.Options) {
		o.Guard = guard.New(o.Registry)
		o.Chain.Others = o.Guard
		if err := o.Guard.Use(policy); err != nil {
			t.Fatal(err)
		}
	})
	jwt := signer(map[string]any{"iss": issuer, "aud": "cellway", "sub": "ann", "org": "acme", "exp": time.Now().Add(time.Hour).Unix()})
	fetchKeys(t, a.options.Guard, jwt)
	for name, bearer := range map[string]string{"token": a.token, "key": a.key, "issuer's token": jwt} {
		t.Run(name, func(t *testing.T) {
			a.allocatesNothing(as(bearer, "", ""))
		})
	}
}

// newSigner is an issuer on this machine that signs.
func newSigner(t *testing.T) (sign func(claims map[string]any) string, url string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "e", Use: "sig"}}}) // the client is the test
	}))
	t.Cleanup(s.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "e"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(claims map[string]any) string {
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		bearer, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return bearer
	}, s.URL
}

// fetchKeys has g fetch until it knows the key of bearer.
func fetchKeys(t *testing.T, g *guard.Guard, bearer string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.FetchKeys(ctx, slog.New(slog.DiscardHandler)) }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := g.Verify(bearer, "GET", "/", time.Now())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the pause of a poll with a deadline
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWhatIsRememberedOfABearerEnds: a token or key that was served on the direct
// way is refused there as anywhere once it is over, and serves nobody else.
func TestWhatIsRememberedOfABearerEnds(t *testing.T) {
	t.Parallel()
	forged := func(s string) string {
		return s[:len(s)-3] + strings.Map(func(r rune) rune { return r ^ 1 }, s[len(s)-3:])
	}
	for name, tt := range map[string]struct {
		key        bool // instead of the token
		spoil      func(a *authWorld)
		bearer     func(string) string
		host, more string
		want       string
	}{
		"token expired":          {spoil: func(a *authWorld) { a.later.Store(int64(2 * time.Hour)) }, want: "401"},
		"token revoked":          {spoil: (*authWorld).revokeToken, want: "401"},
		"token forged":           {bearer: forged, want: "401"},
		"token cut":              {bearer: func(s string) string { return s[:len(s)-1] }, want: "401"},
		"token at another's":     {host: "bolt", want: "400"},
		"token and another's":    {more: "X-Tenant: bolt\r\n", want: "400"},
		"token and an assertion": {more: "Cell-Assertion: v1.k1.1.c1.1.1.x\r\n", want: "400"},
		"token twice":            {more: "Authorization: Bearer x\r\n", want: "400"},
		"key expired":            {key: true, spoil: func(a *authWorld) { a.later.Store(int64(2 * time.Hour)) }, want: "401"},
		"key revoked":            {key: true, spoil: (*authWorld).revokeKey, want: "401"},
		"key forged":             {key: true, bearer: forged, want: "401"},
		"key at another's":       {key: true, host: "bolt", want: "400"},
		"key and an assertion":   {key: true, more: "cell_assertion: v1.k1.1.c1.1.1.x\r\n", want: "400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthWorld(t, nil)
			bearer := a.token
			if tt.key {
				bearer = a.key
			}
			for range 3 {
				if got := status(a.raw(as(bearer, "", "Connection: close\r\n"))); got != "200" {
					t.Fatalf("before: got %s", got)
				}
			}
			taken := a.taken.Load()
			if taken < 2 {
				t.Fatalf("%d requests went the direct way", taken)
			}
			if tt.spoil != nil {
				tt.spoil(a)
			}
			if tt.bearer != nil {
				bearer = tt.bearer(bearer)
			}
			for range 2 {
				if got := status(a.raw(as(bearer, tt.host, tt.more+"Connection: close\r\n"))); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
			if a.taken.Load() != taken {
				t.Error("it went the direct way")
			}
		})
	}
}

func status(answer string) string { return strings.TrimPrefix(answer, "HTTP/1.1 ")[:3] }

func (a *authWorld) revokeToken() {
	gone := directory.RevokedToken{ID: a.claims.ID, Tenant: 1, ExpiresAt: time.Unix(a.claims.ExpiresAt, 0)}
	a.credentials(directory.Credentials{Since: 1, Version: 2, Tokens: []directory.RevokedToken{gone}})
}

func (a *authWorld) revokeKey() {
	a.record.Revoked = true
	a.credentials(directory.Credentials{Since: 1, Version: 2, Keys: []directory.Key{a.record}})
}
