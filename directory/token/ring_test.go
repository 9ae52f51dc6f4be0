package token_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

func newAPIKey(tenant directory.TenantID) (string, directory.Key) {
	key, record := token.NewAPIKey()
	record.Tenant, record.Name = tenant, "test"
	return key, record
}

func apply(t *testing.T, r *token.Ring, c directory.Credentials) {
	t.Helper()
	if err := r.Apply(c); err != nil {
		t.Fatal(err)
	}
}

func TestAPIKeyForm(t *testing.T) {
	t.Parallel()
	key, record := newAPIKey(7)
	if err := record.Validate(); err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`^cwk_[a-z2-7]{16}_[a-z2-7]{48}[0-9a-f]{8}$`).MatchString(key) {
		t.Errorf("key %q is not of the form that scanners look for", key)
	}
	if id, ok := token.APIKeyID(key); !ok || id != record.ID || !token.IsAPIKey(key) {
		t.Errorf("got id %q, %v, want %q", id, ok, record.ID)
	}
	for i := range len(key) {
		if _, ok := token.APIKeyID(flip(key, i)); ok {
			t.Errorf("key with byte %d changed has the right checksum", i)
		}
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	var r token.Ring
	key, record := newAPIKey(7)
	var e *problem.Error
	if _, _, err := r.Check(key, now); !errors.As(err, &e) || e.Kind != problem.Unavailable || e.RetryAfter == 0 || r.Known() {
		t.Errorf("nothing is known yet: got %v", err)
	}
	if _, _, err := r.Check(key[1:], now); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("no key at all, while nothing is known: got %v", err)
	}
	apply(t, &r, directory.Credentials{Version: 1})
	if _, _, err := r.Check(key, now); !errors.Is(err, problem.Unauthenticated) || !r.Known() {
		t.Errorf("an empty ring: got %v", err)
	}
	short, expiring := newAPIKey(8)
	expiring.ExpiresAt = now.Add(time.Minute)
	apply(t, &r, directory.Credentials{Version: 3, Keys: []directory.Key{record, expiring}})
	if tenant, id, err := r.Check(key, now); err != nil || tenant != 7 || id != record.ID {
		t.Errorf("got tenant %d, id %q, %v", tenant, id, err)
	}
	if _, _, err := r.Check(short, now.Add(time.Minute-1)); err != nil {
		t.Errorf("before it expires: %v", err)
	}
	other, _ := newAPIKey(7)
	for name, k := range map[string]string{"another key": other, "no key": "", "the id of one, the secret of another": key[:21] + other[21:]} {
		if _, _, err := r.Check(k, now); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := r.Check(short, now.Add(time.Minute)); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("expired: got %v", err)
	}
	record.Revoked = true
	apply(t, &r, directory.Credentials{Since: 3, Version: 4, Keys: []directory.Key{record}})
	if _, _, err := r.Check(key, now); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("revoked: got %v", err)
	}
	if r.Len() != 1 || r.Version() != 4 {
		t.Errorf("got %d keys at version %d, want 1 at 4", r.Len(), r.Version())
	}
}

func TestRingNeverGoesBack(t *testing.T) {
	t.Parallel()
	var r token.Ring
	key, record := newAPIKey(7)
	if err := r.Apply(directory.Credentials{Since: 2, Version: 3}); !errors.Is(err, problem.Gone) {
		t.Errorf("changes to nothing: got %v", err)
	}
	revoked := record
	revoked.Revoked = true
	apply(t, &r, directory.Credentials{Version: 5, Keys: []directory.Key{record}})
	apply(t, &r, directory.Credentials{Since: 5, Version: 6, Keys: []directory.Key{revoked}})
	for name, tt := range map[string]struct {
		c    directory.Credentials
		want error
	}{
		"an older change": {directory.Credentials{Since: 4, Version: 5, Keys: []directory.Key{record}}, nil},
		"a gap":           {directory.Credentials{Since: 8, Version: 9, Keys: []directory.Key{record}}, problem.Gone},
		"no hash":         {directory.Credentials{Since: 6, Version: 7, Keys: []directory.Key{{ID: record.ID, Tenant: 7}}}, problem.Invalid},
	} {
		if err := r.Apply(tt.c); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if _, _, err := r.Check(key, now); err == nil || r.Version() != 6 {
			t.Errorf("%s brought a revoked key back, or the version to %d", name, r.Version())
		}
	}
}

// TestRingOfARestoredRecord: a record that was restored to version 90 speaks of
// version 91 next. What it revoked and made since counts, and what was revoked
// before stays so: a stale directory says the same as a restored one.
func TestRingOfARestoredRecord(t *testing.T) {
	t.Parallel()
	var r, copied token.Ring
	wants := func(step string, r *token.Ring, want map[string]bool) {
		t.Helper()
		for key, valid := range want {
			if _, _, err := r.Check(key, now); (err == nil) != valid {
				t.Errorf("%s: a key: got %v, want valid %v", step, err, valid)
			}
		}
		if !r.Revoked("aa") {
			t.Errorf("%s: a revoked token counts again", step)
		}
	}
	stolen, stolenRecord := newAPIKey(1)
	ended, endedRecord := newAPIKey(2)
	lost, lostRecord := newAPIKey(3)
	fresh, freshRecord := newAPIKey(4)
	gone := stolenRecord
	gone.Revoked = true
	bearer := directory.RevokedToken{ID: "aa", ExpiresAt: time.Now().Add(time.Hour)}
	apply(t, &r, directory.Credentials{Version: 90, Keys: []directory.Key{stolenRecord, endedRecord}})
	apply(t, &r, directory.Credentials{Since: 90, Version: 100, Keys: []directory.Key{gone, lostRecord}, Tokens: []directory.RevokedToken{bearer}})
	wants("before", &r, map[string]bool{stolen: false, ended: true, lost: true})

	apply(t, &r, directory.Credentials{Version: 91, Keys: []directory.Key{stolenRecord, freshRecord}})
	wants("restored", &r, map[string]bool{stolen: false, ended: false, lost: false, fresh: true})
	if r.Version() != 91 || r.Len() != 1 || r.Restarts() != 1 {
		t.Errorf("got %d keys at version %d after %d restarts, want 1 at 91 after 1", r.Len(), r.Version(), r.Restarts())
	}
	apply(t, &copied, r.All()) // as a router does that starts from its file
	for name, one := range map[string]*token.Ring{"this process": &r, "the next": &copied} {
		apply(t, one, directory.Credentials{Since: 91, Version: 92, Keys: []directory.Key{stolenRecord}})
		wants(name, one, map[string]bool{stolen: false, fresh: true})
		apply(t, one, directory.Credentials{Version: 92, Keys: []directory.Key{stolenRecord, freshRecord}})
		wants(name+", everything once more", one, map[string]bool{stolen: false, fresh: true})
	}
}

// TestRingOfMany: keys survive that changes are merged, and what is kept on disk
// makes an equal ring.
func TestRingOfMany(t *testing.T) {
	t.Parallel()
	var r, copied token.Ring
	keys := map[string]directory.Key{}
	apply(t, &r, directory.Credentials{Version: 1})
	var dead string
	for v := directory.Version(1); v < 1000; v++ {
		key, record := newAPIKey(directory.TenantID(v))
		change := []directory.Key{record}
		if v%3 == 0 {
			gone := keys[dead]
			gone.Revoked = true
			change = append(change, gone)
			delete(keys, dead)
		}
		keys[key], dead = record, key
		apply(t, &r, directory.Credentials{Since: v, Version: v + 1, Keys: change})
	}
	apply(t, &r, directory.Credentials{Since: 1000, Version: 1001, Tokens: []directory.RevokedToken{
		{ID: "aa", ExpiresAt: time.Now().Add(time.Hour)},
	}})
	apply(t, &copied, r.All())
	for _, one := range []*token.Ring{&r, &copied} {
		for key, record := range keys {
			if tenant, _, err := one.Check(key, now); err != nil || tenant != record.Tenant {
				t.Fatalf("key of tenant %d: got %d, %v", record.Tenant, tenant, err)
			}
		}
		if one.Len() != len(keys) || one.Version() != 1001 || !one.Revoked("aa") || one.Revoked("bb") {
			t.Errorf("got %d keys at %d, want %d at 1001", one.Len(), one.Version(), len(keys))
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	var r token.Ring
	key, record := newAPIKey(7)
	apply(t, &r, directory.Credentials{Version: 1, Keys: []directory.Key{record}})
	if n := testing.AllocsPerRun(100, func() { _, _, _ = r.Check(key, now) }); n != 0 {
		t.Errorf("a check allocates %v times", n)
	}
}

func BenchmarkCheckAPIKey(b *testing.B) {
	var r token.Ring
	key, record := newAPIKey(7)
	if err := r.Apply(directory.Credentials{Version: 1, Keys: []directory.Key{record}}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = r.Check(key, now)
	}
}

func FuzzAPIKeyID(f *testing.F) {
	key, _ := token.NewAPIKey()
	f.Add(key)
	f.Add("cwk_")
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := token.APIKeyID(s); ok && (len(s) != len(key) || len(id) != 16) {
			t.Errorf("%q passed", s)
		}
	})
}

// TestARevocationIsKeptUntilTheLatest that was said of it, also where a record that was
// restored says less.
func TestARevocationIsKeptUntilTheLatest(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	var r token.Ring
	for i, at := range []time.Time{until.Add(-time.Minute), until, until.Add(-time.Minute)} {
		gone := directory.RevokedToken{ID: "00112233445566778899", Tenant: 1, ExpiresAt: at}
		if err := r.Apply(directory.Credentials{Version: directory.Version(i + 1), Tokens: []directory.RevokedToken{gone}}); err != nil {
			t.Fatal(err)
		}
	}
	if all := r.All().Tokens; len(all) != 1 || !all[0].ExpiresAt.Equal(until) {
		t.Errorf("got %+v, want it kept until %v", all, until)
	}
}
