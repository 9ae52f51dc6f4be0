package server_test

import (
	"context"
	"slices"
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

// A holder is a router that follows the credentials of a directory, and what holders of
// keys of tenant 1 show it.
type holder struct {
	replaced
	token.Ring
	keys  []directory.Key
	texts []string
}

func newHolder(n int) *holder {
	h := &holder{}
	for range n {
		text, k := token.NewAPIKey()
		k.Tenant, k.Name = 1, "ci"
		h.keys, h.texts = append(h.keys, k), append(h.texts, text)
	}
	return h
}

// follows asks first, until the test ends. apply is told each answer.
func (h *holder) follows(t *testing.T, first *client.Client, apply func(c directory.Credentials) error) {
	t.Helper()
	h.at.Store(first)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- client.WatchCredentials(ctx, &h.replaced, 0, apply, func(error, time.Duration) {})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// takes reports whether the keys that it takes are these.
func (h *holder) takes(want ...int) func() bool {
	return func() bool {
		for i, text := range h.texts {
			if _, _, err := h.Check(text, time.Now()); (err == nil) != slices.Contains(want, i) {
				return false
			}
		}
		return true
	}
}

// TestCredentialsOfARestoredDirectory: a router that is ahead of the record hears of
// what was revoked and made since the record was restored, long before the versions
// have passed its own; and what it knows to be revoked stays so.
func TestCredentialsOfARestoredDirectory(t *testing.T) {
	t.Parallel()
	kept, stolen, lost, leaked, fresh := 0, 1, 2, 3, 4
	h := newHolder(5)
	before := withKeys(t, h.keys[kept], h.keys[leaked], h.keys[stolen], h.keys[lost])
	h.follows(t, serve(t, before, nil).client(t, token.Router), h.Apply)
	within(t, "the keys of before", h.takes(kept, leaked, stolen, lost))
	if err := before.RevokeKey(t.Context(), 1, h.keys[stolen].ID); err != nil {
		t.Fatal(err)
	}
	within(t, "without the stolen one", h.takes(kept, leaked, lost))
	at := h.Version()

	after := withKeys(t, h.keys[kept], h.keys[leaked], h.keys[stolen]) // of the backup
	h.at.Store(serve(t, after, nil).client(t, token.Router))
	within(t, "the backup's", h.takes(kept, leaked))
	if err := after.RevokeKey(t.Context(), 1, h.keys[leaked].ID); err != nil {
		t.Fatal(err)
	}
	within(t, "without what was revoked since", h.takes(kept))
	addKey(t, after, h.keys[fresh])
	within(t, "with what was made since", h.takes(kept, fresh))
	if h.Version() > at || h.Restarts() != 1 {
		t.Errorf("got version %d after %d restarts, want at most %d after one", h.Version(), h.Restarts(), at)
	}
}

// TestCredentialsOfARestoredDirectoryThatWentOn: a router was cut off until a restored
// record had passed its version. It has to know what that one has, and nothing that it
// lost; also where both are at one version.
func TestCredentialsOfARestoredDirectoryThatWentOn(t *testing.T) {
	t.Parallel()
	kept, lost, first, second := 0, 1, 2, 3
	for name, since := range map[string][]int{"as far": {first}, "farther": {first, second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHolder(4)
			before, after := withKeys(t, h.keys[kept], h.keys[lost]), withKeys(t, h.keys[kept])
			for _, i := range since {
				addKey(t, after, h.keys[i])
			}
			h.follows(t, serve(t, before, nil).client(t, token.Router), h.Apply)
			within(t, "the keys of before", h.takes(kept, lost))
			h.at.Store(serve(t, after, nil).client(t, token.Router))
			within(t, "the restored record's", h.takes(append(since, kept)...))
			if h.Restarts() != 1 {
				t.Errorf("got %d restarts, want one", h.Restarts())
			}
		})
	}
}

// TestCredentialsOverTheEndOfADirectory: what a directory that stops says to who waits does
// not make a router forget what it compares a restored record with.
func TestCredentialsOverTheEndOfADirectory(t *testing.T) {
	t.Parallel()
	kept, lost, since := 0, 1, 2
	h := newHolder(3)
	stopping, stop := context.WithCancel(t.Context())
	first := serve(t, withKeys(t, h.keys[kept], h.keys[lost]), func(o *server.Options) { o.Stopping = stopping })
	restored := withKeys(t, h.keys[kept])
	addKey(t, restored, h.keys[since]) // as far as the record that is lost
	second := serve(t, restored, nil).client(t, token.Router)
	h.follows(t, first.client(t, token.Router), func(c directory.Credentials) error {
		if stopping.Err() != nil { // its last answer
			h.at.Store(second)
		}
		return h.Apply(c)
	})
	within(t, "the keys of before", h.takes(kept, lost))
	stop()
	within(t, "the restored record's", h.takes(kept, since))
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
