package keyring

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

func poll(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		time.Sleep(time.Millisecond) // the pause of a poll with a deadline
	}
}

// TestKeysFollowTheDirectory: a key that was made is known and one that was
// revoked is refused, as soon as the directory says so; with the directory dead
// a new process knows the same, revocations too.
func TestKeysFollowTheDirectory(t *testing.T) {
	t.Parallel()
	w := directorytest.NewKeyWorld(t)
	m, acme, key, record := w.Memory, w.Acme, w.Text, w.Key
	path := filepath.Join(t.TempDir(), "keys")
	var ring token.Ring
	f := New(path, &ring, slog.New(slog.DiscardHandler))
	f.Load(t.Context()) // there is no file yet
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- f.Follow(ctx, m) }()
	go func() { ended <- f.Run(ctx) }()
	valid := func(r *token.Ring, key string) bool { _, _, err := r.Check(key, time.Now()); return err == nil }
	poll(t, func() bool { return valid(&ring, key) })
	if err := m.RevokeKey(t.Context(), acme.ID, record.ID); err != nil {
		t.Fatal(err)
	}
	revoked := directory.RevokedToken{ID: "00112233445566778899", Tenant: acme.ID, ExpiresAt: time.Now().Add(time.Hour)}
	if err := m.RevokeToken(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	other, second := token.NewAPIKey()
	second.Tenant, second.Name = acme.ID, "other"
	if _, err := m.AddKey(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { return !valid(&ring, key) && valid(&ring, other) && ring.Revoked(revoked.ID) })
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	var again token.Ring
	New(path, &again, slog.New(slog.DiscardHandler)).Load(t.Context())
	if valid(&again, key) || !valid(&again, other) || !again.Revoked(revoked.ID) || again.Version() != ring.Version() {
		t.Error("after a restart without a directory the keys are not those of before")
	}
}

// A lostFeed is away, or takes the questions that are out and never answers them.
type lostFeed struct {
	directory.Keys
	away, silent atomic.Bool
}

func (f *lostFeed) Credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	if f.away.Load() {
		return directory.Credentials{}, problem.New(problem.Unavailable, "refused")
	}
	if f.silent.CompareAndSwap(true, false) { // the next one is on a connection that lives
		select {
		case <-ctx.Done():
		case <-time.After(wait + 5*time.Second): // as the client's timeout
		}
		return directory.Credentials{}, problem.New(problem.Unavailable, "no answer")
	}
	return f.Keys.Credentials(ctx, since, wait)
}

// TestARevocationDoesNotWaitForADeadConnection: where a connection died silently, and
// where the directory was away for long, the ring knows what was revoked as soon as
// the table would know of a change.
func TestARevocationDoesNotWaitForADeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := directorytest.NewKeyWorld(t)
		feed := &lostFeed{Keys: w.Memory}
		var ring token.Ring
		f := New(filepath.Join(t.TempDir(), "keys"), &ring, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Follow(ctx, feed) }()
		time.Sleep(10 * time.Second)
		if since := time.Since(f.confirmedAt()); since > time.Second {
			t.Errorf("idle: last heard of %v ago, want one beat", since)
		}
		feed.silent.Store(true)
		for feed.silent.Load() { // until the question that is to be lost is out
			time.Sleep(10 * time.Millisecond)
		}
		if err := w.RevokeKey(t.Context(), w.Acme.ID, w.Key.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2200 * time.Millisecond) // two beats and a pause
		if _, _, err := ring.Check(w.Text, time.Now()); err == nil {
			t.Error("two beats after it was revoked the key counts, because a connection died")
		}
		feed.away.Store(true)
		time.Sleep(time.Minute)
		revoked := directory.RevokedToken{ID: "00112233445566778899", Tenant: w.Acme.ID, ExpiresAt: time.Now().Add(time.Hour)}
		if err := w.RevokeToken(t.Context(), revoked); err != nil {
			t.Fatal(err)
		}
		feed.away.Store(false)
		time.Sleep(time.Second)
		if !ring.Revoked(revoked.ID) {
			t.Error("a second after the directory is back the token counts")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSpoiltKeyFile: no part of a file that was cut or changed is believed.
func TestSpoiltKeyFile(t *testing.T) {
	t.Parallel()
	m := directorytest.NewKeyWorld(t)
	key := m.Text
	c, err := m.Credentials(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys")
	var ring token.Ring
	if err := ring.Apply(c); err != nil {
		t.Fatal(err)
	}
	if err := New(path, &ring, slog.New(slog.DiscardHandler)).save(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	load := func(b []byte) *token.Ring {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var r token.Ring
		New(path, &r, slog.New(slog.DiscardHandler)).Load(t.Context())
		return &r
	}
	if r := load(good); r.Version() == 0 {
		t.Fatal("the good file was refused")
	}
	for n := 0; n < len(good); n += 7 {
		flipped := append([]byte(nil), good...)
		flipped[n] ^= 1
		for _, b := range [][]byte{good[:n], flipped} {
			r := load(b)
			if _, _, err := r.Check(key, time.Now()); r.Version() != 0 || err == nil {
				t.Fatalf("a file spoilt at byte %d was believed", n)
			}
		}
	}
}
