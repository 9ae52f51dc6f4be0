package sign

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/identify"
)

// TestKeyStaysAtTheEdge: a cell gets a token of ours in place of a key, the same
// one for as long as a window lasts.
func TestKeyStaysAtTheEdge(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	key, _ := token.NewAPIKey()
	now := time.Unix(1_800_000_000, 0)
	sent := func(b *Bearers, res identify.Result, at time.Time) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		if err := b.Replace(r, res, at); err != nil {
			t.Fatal(err)
		}
		return r.Header.Get("Authorization")
	}
	b := &Bearers{Keys: keys}
	res := identify.Result{Foreign: true, Claims: &token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "key/x"}}
	first := sent(b, res, now)
	claims, err := keys.Verify(first[len("Bearer "):], now)
	if err != nil || claims.Tenant != 7 || claims.Subject != "key/x" || claims.Kind != token.Tenant {
		t.Errorf("the cell gets %+v, %v", claims, err)
	}
	if sent(b, res, now.Add(time.Second)) != first || sent(b, res, now.Add(bearerWindow)) == first {
		t.Error("the token is not made once in a window")
	}
	if got := sent(&Bearers{}, res, now); got != "" {
		t.Errorf("without a key to sign with the cell gets %q", got)
	}
	if got := sent(b, identify.Result{Claims: res.Claims}, now); got != "Bearer "+key {
		t.Errorf("a token of ours became %q", got)
	}
}
