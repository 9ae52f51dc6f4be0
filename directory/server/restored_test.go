package server_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/token"
)

// A replaced directory is asked where the pointer leads now.
type replaced struct {
	directory.Keys // nil: only Credentials is asked for
	at             atomic.Pointer[client.Client]
}

func (r *replaced) Credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	return r.at.Load().Credentials(ctx, since, min(wait, time.Second))
}

// withKeys is a directory of acme, tenant 1, with keys that are as old as their place.
func withKeys(t *testing.T, keys ...directory.Key) *directorytest.Memory {
	t.Helper()
	m := withCell(t)
	if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme", Cell: "c1"}); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		addKey(t, m, k)
	}
	return m
}

func addKey(t *testing.T, m *directorytest.Memory, k directory.Key) {
	t.Helper()
	if _, err := m.AddKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
}

// TestCredentialsOfARestoredDirectory: a router that is ahead of the record hears of
// what was revoked and made since the record was restored, long before the versions
// have passed its own; and what it knows to be revoked stays so.
func TestCredentialsOfARestoredDirectory(t *testing.T) {
	t.Parallel()
	var texts [5]string
	var keys [5]directory.Key
	for i := range keys {
		texts[i], keys[i] = token.NewAPIKey()
		keys[i].Tenant, keys[i].Name = 1, "ci"
	}
	kept, stolen, lost, leaked, fresh := 0, 1, 2, 3, 4
	before := withKeys(t, keys[kept], keys[leaked], keys[stolen], keys[lost])
	var feed replaced
	feed.at.Store(serve(t, before, nil).client(t, token.Router))
	var ring token.Ring
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- client.WatchCredentials(ctx, &feed, 0, ring.Apply, func(error, time.Duration) {})
	}()
	valid := func(want ...int) func() bool {
		return func() bool {
			for i, text := range texts {
				_, _, err := ring.Check(text, time.Now())
				expected := false
				for _, w := range want {
					expected = expected || w == i
				}
				if expected != (err == nil) {
					return false
				}
			}
			return true
		}
	}
	within(t, "the keys of before", valid(kept, leaked, stolen, lost))
	if err := before.RevokeKey(t.Context(), 1, keys[stolen].ID); err != nil {
		t.Fatal(err)
	}
	within(t, "without the stolen one", valid(kept, leaked, lost))
	at := ring.Version()

	after := withKeys(t, keys[kept], keys[leaked], keys[stolen]) // of the backup
	feed.at.Store(serve(t, after, nil).client(t, token.Router))
	within(t, "the backup's", valid(kept, leaked))
	if err := after.RevokeKey(t.Context(), 1, keys[leaked].ID); err != nil {
		t.Fatal(err)
	}
	within(t, "without what was revoked since", valid(kept))
	addKey(t, after, keys[fresh])
	within(t, "with what was made since", valid(kept, fresh))
	if ring.Version() > at || ring.Restarts() != 1 {
		t.Errorf("got version %d after %d restarts, want at most %d after one", ring.Version(), ring.Restarts(), at)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCredentialsOfARestoredDirectoryThatWentOn: a router was cut off until a restored
// record had passed its version. It has to know what that one has, and nothing that it
// lost; also where both are at one version.
func TestCredentialsOfARestoredDirectoryThatWentOn(t *testing.T) {
	t.Parallel()
	var texts [4]string
	var keys [4]directory.Key
	for i := range keys {
		texts[i], keys[i] = token.NewAPIKey()
		keys[i].Tenant, keys[i].Name = 1, "ci"
	}
	kept, lost, first, second := 0, 1, 2, 3
	for name, since := range map[string][]int{"as far": {first}, "farther": {first, second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := withKeys(t, keys[kept], keys[lost]), withKeys(t, keys[kept])
			for _, i := range since {
				addKey(t, after, keys[i])
			}
			var feed replaced
			feed.at.Store(serve(t, before, nil).client(t, token.Router))
			var ring token.Ring
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- client.WatchCredentials(ctx, &feed, 0, ring.Apply, func(error, time.Duration) {})
			}()
			valid := func(i int) bool { _, _, err := ring.Check(texts[i], time.Now()); return err == nil }
			within(t, "the keys of before", func() bool { return valid(kept) && valid(lost) })
			feed.at.Store(serve(t, after, nil).client(t, token.Router))
			within(t, "the restored record's", func() bool { return valid(kept) && !valid(lost) && valid(since[len(since)-1]) })
			if !valid(first) || ring.Restarts() != 1 {
				t.Errorf("the first key since is known: %v, after %d restarts", valid(first), ring.Restarts())
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCredentialsOverTheEndOfADirectory: what a directory that stops says to who waits does
// not make a router forget what it compares a restored record with.
func TestCredentialsOverTheEndOfADirectory(t *testing.T) {
	t.Parallel()
	var texts [3]string
	var keys [3]directory.Key
	for i := range keys {
		texts[i], keys[i] = token.NewAPIKey()
		keys[i].Tenant, keys[i].Name = 1, "ci"
	}
	kept, lost, since := 0, 1, 2
	stopping, stop := context.WithCancel(t.Context())
	first := serve(t, withKeys(t, keys[kept], keys[lost]), func(o *server.Options) { o.Stopping = stopping })
	restored := withKeys(t, keys[kept])
	addKey(t, restored, keys[since]) // as far as the record that is lost
	second := serve(t, restored, nil)
	var feed replaced
	feed.at.Store(first.client(t, token.Router))
	var ring token.Ring
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- client.WatchCredentials(ctx, &feed, 0, func(c directory.Credentials) error {
			if stopping.Err() != nil { // its last answer
				feed.at.Store(second.client(t, token.Router))
			}
			return ring.Apply(c)
		}, func(error, time.Duration) {})
	}()
	valid := func(i int) bool { _, _, err := ring.Check(texts[i], time.Now()); return err == nil }
	within(t, "the keys of before", func() bool { return valid(kept) && valid(lost) })
	stop()
	within(t, "the restored record's", func() bool { return valid(kept) && !valid(lost) && valid(since) })
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// within polls until ok.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) { // a poll's pause
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}
