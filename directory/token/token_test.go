package token_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

var now = time.Unix(1_800_000_000, 0)

func newKeys(tb testing.TB, ids ...string) token.Keys {
	tb.Helper()
	var parts []string
	for _, id := range ids {
		parts = append(parts, token.NewKey(id))
	}
	keys, err := token.ParseKeys(strings.Join(parts, ","))
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	good := token.NewKey("k1")
	for name, in := range map[string]string{
		"nothing":      "",
		"no id":        good[2:],
		"upper case":   strings.ToUpper(good[:2]) + good[2:],
		"dot in id":    "k.1" + good[2:],
		"not base64":   "k1:***",
		"short secret": "k1:" + base64.StdEncoding.EncodeToString(make([]byte, 31)),
		"an empty one": good + ",",
		"the same id":  good + "," + token.NewKey("k1"),
	} {
		if _, err := token.ParseKeys(in); !errors.Is(err, problem.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, "k1", "k2")
	s, err := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "ann"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.Verify(s, now.Add(59*time.Minute))
	if err != nil || got.Tenant != 7 || got.Subject != "ann" || got.Kind != token.Tenant || got.ID == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	if !token.Ours(s) || token.Ours("eyJhbGciOi.x.y") {
		t.Error("Ours does not tell ours from others")
	}
	if _, err := keys.Verify(s, now.Add(time.Hour)); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("expired: got %v", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, "k1")
	for name, tt := range map[string]struct {
		claims token.Claims
		ttl    time.Duration
	}{
		"a tenant's without a tenant": {token.Claims{Kind: token.Tenant}, time.Hour},
		"an operator's with a tenant": {token.Claims{Kind: token.Operator, Tenant: 1}, time.Hour},
		"no lifetime":                 {token.Claims{Kind: token.Operator}, 0},
	} {
		if _, err := keys.Issue(tt.claims, now, tt.ttl); !errors.Is(err, problem.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if _, err := token.Keys(nil).Issue(token.Claims{Kind: token.Operator}, now, time.Hour); !errors.Is(err, problem.Unavailable) {
		t.Errorf("no key: got %v", err)
	}
}

func TestRotationKeepsOldTokens(t *testing.T) {
	t.Parallel()
	both := newKeys(t, "old", "new")
	old, next := both[:1], token.Keys{both[1], both[0]}
	s, err := old.Issue(token.Claims{Kind: token.Cell, Subject: "c1"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Verify(s, now); err != nil {
		t.Errorf("with both keys: %v", err)
	}
	if _, err := next[:1].Verify(s, now); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("with the new key alone: got %v", err)
	}
}

// TestWhoHasWhichKeys: what a router has makes no token of a mover or an operator, and what a cell
// has makes nothing that anybody else accepts.
func TestWhoHasWhichKeys(t *testing.T) {
	t.Parallel()
	root, asserting := newKeys(t, "k1", "k2"), newKeys(t, "a1")
	router := again(t, token.ParseKeys, root.For(token.Tenants))
	c1, c2 := again(t, token.ParseKeys, router.For(token.OfCell("c1"))), router.For(token.OfCell("c2"))
	a1, a2 := asserting.For(token.OfCell("c1")), asserting.For(token.OfCell("c2"))
	movers := again(t, token.ParseKeys, root.For(token.Movers))
	public := again(t, token.ParsePublic, movers.Public())

	issue := func(k token.Keys, c token.Claims) string {
		t.Helper()
		s, err := k.Issue(c, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tenant := token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "ann"}
	mover, operator := token.Claims{Kind: token.Mover, Subject: "m1"}, token.Claims{Kind: token.Operator, Subject: "eve"}
	for what, tt := range map[string]struct {
		by    token.Keys
		said  token.Claims
		takes map[string]token.Keys
	}{
		"the directory's word for a tenant":    {root.For(token.Tenants), tenant, map[string]token.Keys{"a router": router}},
		"the directory's word for a mover":     {root, mover, map[string]token.Keys{"the directory": root}},
		"the directory's word for an operator": {root, operator, map[string]token.Keys{"the directory": root}},
		"a mover's word to a cell":             {movers, mover, map[string]token.Keys{"who has the movers' public keys": public}},
		"a router's word for a tenant, to c1":  {router.For(token.OfCell("c1")), tenant, map[string]token.Keys{"c1": c1}},
		"what c1 says of a tenant":             {c1, tenant, map[string]token.Keys{"c1": c1}},
		"what c1 says of an operator":          {c1, operator, map[string]token.Keys{"c1": c1}},
		"what a router says of a mover":        {router, mover, map[string]token.Keys{"a router": router}},
	} {
		s := issue(tt.by, tt.said)
		for who, keys := range map[string]token.Keys{
			"the directory": root, "a router": router, "c1": c1, "c2": c2, "who has the movers' public keys": public, "c1's asserting": a1,
		} {
			_, err := keys.Verify(s, now)
			if _, want := tt.takes[who]; (err == nil) != want {
				t.Errorf("%s: %s takes it: %v, want %v", what, who, err == nil, want)
			}
		}
	}
	if _, err := public.Issue(mover, now, time.Hour); !errors.Is(err, problem.Unavailable) {
		t.Errorf("public keys sign: %v", err)
	}
	a := token.Assertion{Tenant: 7, Cell: "c2", Epoch: 3, Window: now.Unix()}
	forged, err := a1.Assert(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a2.CheckAssertion(forged, "c2", now); err == nil {
		t.Errorf("c2 takes what c1 has signed")
	}
	for name, bad := range map[string]string{"secret keys": root.Text(), "short": "public-k1:AAAA", "nothing": ""} {
		if _, err := token.ParsePublic(bad); !errors.Is(err, problem.Invalid) {
			t.Errorf("%s as public ones: got %v, want invalid", name, err)
		}
	}
}

// again is keys as their text says them.
func again(t *testing.T, parse func(string) (token.Keys, error), k token.Keys) token.Keys {
	t.Helper()
	keys, err := parse(k.Text())
	if err != nil || keys.Text() != k.Text() {
		t.Fatalf("got %d keys, %v", len(keys), err)
	}
	return keys
}

// TestEveryChangeIsRefused changes each byte of a token and of an assertion.
func TestEveryChangeIsRefused(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, "k1")
	s, err := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "ann"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a, err := keys.Assert(token.Assertion{Tenant: 7, Cell: "c1", Epoch: 3, Window: now.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	control, err := keys.Issue(token.Claims{Kind: token.Operator, Subject: "ann"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(control) {
		if _, err := keys.Verify(flip(control, i), now); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("an operator's token with byte %d changed: got %v", i, err)
		}
	}
	for i := range len(s) {
		if _, err := keys.Verify(flip(s, i), now); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("token with byte %d changed: got %v", i, err)
		}
		if _, err := keys.Verify(s[:i], now); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("token cut at %d: got %v", i, err)
		}
	}
	for i := range len(a) {
		if _, err := keys.CheckAssertion(flip(a, i), "c1", now); !errors.Is(err, problem.AssertionRefused) {
			t.Errorf("assertion with byte %d changed: got %v", i, err)
		}
		if _, err := keys.CheckAssertion(a[:i], "c1", now); !errors.Is(err, problem.AssertionRefused) {
			t.Errorf("assertion cut at %d: got %v", i, err)
		}
	}
}

// flip puts another character in place of the one at i.
func flip(s string, i int) string {
	b := []byte(s)
	if b[i] != 'A' {
		b[i] = 'A'
	} else {
		b[i] = 'z'
	}
	return string(b)
}

func TestAssertion(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, "k1")
	a := token.Assertion{Tenant: 7, Cell: "c1", Epoch: 3, Window: now.Unix()}
	s, err := keys.Assert(a)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cell string
		at   time.Duration
		ok   bool
	}{
		"now":                    {"c1", 0, true},
		"a clock that is behind": {"c1", -2 * time.Second, true},
		"a clock too far behind": {"c1", -2*time.Second - 1, false},
		"at the end of its time": {"c1", 6 * time.Second, true},
		"after its time":         {"c1", 6*time.Second + 1, false},
		"another cell":           {"c2", 0, false},
		"the end of its name":    {"1", 0, false},
	} {
		got, err := keys.CheckAssertion(s, directory.CellID(tt.cell), now.Add(tt.at))
		if (err == nil) != tt.ok || tt.ok && got != a {
			t.Errorf("%s: got %+v, %v, want ok %v", name, got, err, tt.ok)
		}
	}
	if _, err := token.Keys(nil).Assert(a); !errors.Is(err, problem.Unavailable) {
		t.Errorf("no key: got %v", err)
	}
}

func TestOneCannotPassForTheOther(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, "k1")
	s, _ := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: 7}, now, time.Hour)
	a, _ := keys.Assert(token.Assertion{Tenant: 7, Cell: "c1", Epoch: 1, Window: now.Unix()})
	if _, err := keys.Verify(a, now); err == nil {
		t.Error("an assertion passed for a token")
	}
	if _, err := keys.CheckAssertion(s, "c1", now); err == nil {
		t.Error("a token passed for an assertion")
	}
}

// FuzzCheckAssertion: the header is what a stranger sends; only what Assert made
// passes, and nothing panics.
func FuzzCheckAssertion(f *testing.F) {
	keys := newKeys(f, "k1")
	good, _ := keys.Assert(token.Assertion{Tenant: 7, Cell: "c1", Epoch: 3, Window: now.Unix()})
	f.Add(good)
	f.Add("v1.k1.7.c1.-3.0.x")
	f.Add(good + ".x")
	f.Add("......")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := keys.CheckAssertion(s, "c1", now)
		if err != nil {
			return
		}
		if again, _ := keys.Assert(a); again != s {
			t.Errorf("%q passed, and was never made", s)
		}
	})
}

// FuzzVerify is the same for tokens.
func FuzzVerify(f *testing.F) {
	keys := newKeys(f, "k1")
	good, _ := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: 7, Subject: "ann"}, now, time.Hour)
	f.Add(good)
	f.Add("cwt1.k1.e30.x")
	f.Add("....")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := keys.Verify(s, now); err == nil && s != good {
			t.Errorf("%q passed, and was never issued", s)
		}
	})
}
