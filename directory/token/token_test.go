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
	s, err := old.Issue(token.Claims{Kind: token.Service, Subject: "c1"}, now, time.Hour)
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
