package sign

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
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
	sent := func(b *Bearers, c *token.Claims, cell directory.CellID, at time.Time) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		if err := b.Authorize(r, c, cell, at); err != nil {
			t.Fatal(err)
		}
		return r.Header.Get("Authorization")
	}
	b := &Bearers{Keys: keys}
	said := &token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "key/x"}
	first := sent(b, said, "c1", now)
	claims, err := keys.For(token.OfCell("c1")).Verify(first[len("Bearer "):], now)
	if err != nil || claims.Tenant != 7 || claims.Subject != "key/x" || claims.Kind != token.Tenant {
		t.Errorf("the cell gets %+v, %v", claims, err)
	}
	for who, others := range map[string]token.Keys{"a router": keys, "another cell": keys.For(token.OfCell("c2"))} {
		if _, err := others.Verify(first[len("Bearer "):], now); err == nil {
			t.Errorf("%s takes what is for c1", who)
		}
	}
	if sent(b, said, "c1", now.Add(time.Second)) != first || sent(b, said, "c1", now.Add(bearerWindow)) == first || sent(b, said, "c2", now) == first {
		t.Error("the token is not made once in a window, for one cell")
	}
	if got := sent(&Bearers{}, said, "c1", now); got != "" {
		t.Errorf("without a key to sign with the cell gets %q", got)
	}
	if got := sent(b, nil, "c1", now); got != "" {
		t.Errorf("of nobody the cell gets %q", got)
	}
}

// TestABearerThatIsMadeCostsNoMemory.
func TestABearerThatIsMadeCostsNoMemory(t *testing.T) {
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	b, now, c := &Bearers{Keys: keys}, time.Unix(1_800_000_000, 0), &token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "ann"}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Of(c, "c1", now) }); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
