package token_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// A history makes credentials with their chain: one new key in each version.
type history struct {
	version directory.Version
	head    directory.Head
	all     []directory.Key
}

// grow is the next version, which brings a key.
func (h *history) grow() (text string, c directory.Credentials) {
	text, k := newAPIKey(1)
	h.version++
	h.head = h.head.After(h.version, k.Digest())
	h.all = append(h.all, k)
	return text, directory.Credentials{
		Since: h.version - 1, Version: h.version, Head: h.head,
		Links: []directory.Link{{Credential: k.ID, Digest: k.Digest()}}, Keys: []directory.Key{k},
	}
}

func (h *history) whole() directory.Credentials {
	return directory.Credentials{Version: h.version, Head: h.head, Keys: h.all}
}

func TestRingHoldsToItsChain(t *testing.T) {
	t.Parallel()
	valid := func(r *token.Ring, text string) bool { _, _, err := r.Check(text, time.Now()); return err == nil }
	mine, other := history{version: 1, head: directory.Head{1}}, history{version: 1, head: directory.Head{2}}
	var r token.Ring
	apply(t, &r, mine.whole())
	kept, c := mine.grow()
	apply(t, &r, c)
	apply(t, &r, directory.Credentials{Since: 2, Version: 2, Head: mine.head}) // a beat

	refused := func(what, reason string, c directory.Credentials) {
		t.Helper()
		err := r.Apply(c)
		b, broken := errors.AsType[*directory.Breach](err)
		if !broken || b.Reason != reason || r.Version() != 2 || !valid(&r, kept) {
			t.Errorf("%s: got %v at version %d, want a breach: %s", what, err, r.Version(), reason)
		}
	}
	other.grow()
	lost, foreign := other.grow()
	refused("a beat of another history", directory.Fork, directory.Credentials{Since: 2, Version: 2, Head: directory.Head{9}})
	refused("a change of another history", directory.Fork, foreign)
	_, next := mine.grow()
	short := next
	short.Links = nil
	refused("a change without its link", directory.Gap, short)
	odd := next
	odd.Keys = foreign.Keys
	refused("another key than was made", directory.Content, odd)
	if r.Restarts() != 0 {
		t.Errorf("%d restarts before everything came", r.Restarts())
	}

	// Everything of the other history is a restart after a fork, and only then.
	refused("the other history again", directory.Fork, foreign)
	apply(t, &r, other.whole())
	if r.Restarts() != 1 || valid(&r, kept) || !valid(&r, lost) || r.Head() != other.head {
		t.Errorf("after everything: %d restarts, the old key counts: %v, the new: %v", r.Restarts(), valid(&r, kept), valid(&r, lost))
	}
	if all := r.All(); all.Head != other.head {
		t.Errorf("to be kept: head %x, want %x", all.Head, other.head)
	}
}

// TestRingBesideReleasesWithoutAChain: neither a ring from before nor a directory from
// before has a head, and nobody takes that for another history.
func TestRingBesideReleasesWithoutAChain(t *testing.T) {
	t.Parallel()
	h := history{version: 1, head: directory.Head{1}}
	var r token.Ring
	apply(t, &r, directory.Credentials{Version: 1}) // of a file from before
	apply(t, &r, directory.Credentials{Since: 1, Version: 1, Head: h.head})
	if r.Head() != h.head {
		t.Errorf("a beat's head is not learned: got %x", r.Head())
	}
	for range 3 { // the directory's processes are of both releases
		_, c := h.grow()
		c.Head, c.Links = directory.Head{}, nil
		apply(t, &r, c)
		if !r.Head().IsZero() {
			t.Errorf("version %d came without a head, and the ring has %x", c.Version, r.Head())
		}
		_, c = h.grow()
		apply(t, &r, c)
		if r.Version() != h.version || r.Head() != h.head {
			t.Errorf("got version %d, head %x", r.Version(), r.Head())
		}
	}
	if r.Restarts() != 0 {
		t.Errorf("%d restarts", r.Restarts())
	}
}
