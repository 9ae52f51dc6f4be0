package identify

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

func numbered(n int) (h Hash) {
	binary.LittleEndian.PutUint64(h[:], uint64(n))
	return h
}

// TestRecentIsBounded: what was asked for lately stays, whatever comes; of the rest
// no more than the bound does.
func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	var r Recent[int]
	if _, ok := r.Get(numbered(0)); ok {
		t.Fatal("it knows what it was not told")
	}
	for n := range 5 * mostRecent {
		r.Put(numbered(n), n)
		if v, ok := r.Get(numbered(0)); !ok || v != 0 {
			t.Fatalf("after %d: got %d, %v", n, v, ok)
		}
	}
	known := 0
	for n := range 5 * mostRecent {
		if _, ok := r.young[numbered(n)]; ok {
			known++
		}
		if _, ok := r.old[numbered(n)]; ok {
			known++
		}
	}
	if _, ok := r.Get(numbered(5*mostRecent - 1)); !ok || known > 2*mostRecent {
		t.Errorf("newest known %v; %d are kept", ok, known)
	}
}

// TestATokensKeyIsAskedFor: a token that is remembered counts for as long as the
// key that has proven it is accepted, under its name and with its secret.
func TestATokensKeyIsAskedFor(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	first, second, other := c.Keys, keysOf(t, "k2"), keysOf(t, "k1")
	h := HeadOf(get("cellway.localhost", "/", "Authorization", "Bearer "+tenantToken(t, c, token.Claims{Kind: token.Tenant, Tenant: 1, Subject: "ann"})))
	if _, err := c.Recall(h, v); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("before it was verified: got %v", err)
	}
	if res, err := c.Identify(h, v); err != nil || res.Claims.Subject != "ann" {
		t.Fatalf("got %+v, %v", res, err)
	}
	for name, tt := range map[string]struct {
		keys token.Keys
		ok   bool
	}{
		"its key":                      {first, true},
		"its key, which signs":         {append(append(token.Keys{}, first...), second...), true},
		"its key, which signs no more": {append(append(token.Keys{}, second...), first...), true},
		"its key dropped":              {second, false},
		"another key under its name":   {other, false},
		"no key":                       {nil, false},
	} {
		c.Keys = tt.keys
		for which, ask := range map[string]func(*Head, *table.View) (Result, error){"recall": c.Recall, "identify": c.Identify} {
			res, err := ask(h, v)
			if tt.ok && (err != nil || res.Claims.Tenant != 1) || !tt.ok && !errors.Is(err, problem.Unauthenticated) {
				t.Errorf("%s, %s: got %+v, %v", name, which, res, err)
			}
		}
	}
}

func keysOf(t *testing.T, id string) token.Keys {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey(id))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
