package keep_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var first = keep.Move{ID: "mv_1", Tenant: tenant, Epoch: 2}

// round brings the target up to the source's present and returns how many keys came.
func round(t *testing.T, a, b cell, m keep.Move, final bool) (n int) {
	t.Helper()
	ctx := t.Context()
	since, err := b.Begin(ctx, m)
	must(t, err)
	for {
		p, err := a.Changes(ctx, m, since, final)
		must(t, err)
		must(t, b.Apply(ctx, m, p))
		n += len(p.Values)
		if since = p.Reached; !p.More {
			return n
		}
	}
}

// TestEveryKeyMovesWithItsTTL: 10,000 keys, with and without TTL, written while the
// move is under way; at the target is what was acknowledged, and nothing else.
func TestEveryKeyMovesWithItsTTL(t *testing.T) {
	t.Parallel()
	a, b, ctx := newCell(t), newCell(t), t.Context()
	const keys = 10_000
	ttl := func(i int) time.Duration { return time.Duration(i%3) * time.Hour } // every third has none
	for i := range keys {
		must(t, a.Set(ctx, key(tenant, 1, i), fmt.Append(nil, i), ttl(i)))
	}
	must(t, a.Set(ctx, key(neighbour, 1, "x"), []byte("a"), time.Hour))
	must(t, b.Set(ctx, key(neighbour, 9, "x"), []byte("b"), time.Hour))
	must(t, a.raw.Set(ctx, "{t:7}:projects:summary:p@1", "cache", time.Hour).Err())
	must(t, a.raw.Set(ctx, keep.Rate(tenant), "12.5", time.Hour).Err())
	atA, atB := a.contents(t, neighbour), b.contents(t, neighbour)

	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				k := key(tenant, 1, (i*7+w*2500)%(keys+500))
				err := a.Set(ctx, k, fmt.Append(nil, "w", w, i), ttl(i))
				if i%5 == 0 && err == nil {
					err = a.Delete(ctx, k)
				}
				if err != nil {
					if !errors.Is(err, problem.Stale) {
						t.Errorf("write: %v", err)
					}
					return
				}
			}
		})
	}
	for range 3 {
		round(t, a, b, first, false)
	}
	last := round(t, a, b, first, true)
	writers.Wait() // each was refused
	if last > keys/2 {
		t.Errorf("the last round brought %d keys", last)
	}
	sameContents(t, b.contents(t, tenant), a.contents(t, tenant))
	sameContents(t, a.contents(t, neighbour), atA)
	sameContents(t, b.contents(t, neighbour), atB)
	if b.raw.Exists(ctx, "{t:7}:projects:summary:p@1").Val() != 0 {
		t.Error("a cache came along")
	}
	if b.raw.Exists(ctx, keep.Rate(tenant)).Val() != 1 {
		t.Error("the limit did not come along")
	}
	if n := round(t, a, b, first, true); n != 1 {
		t.Errorf("the last round again: %d keys, want the limit only", n)
	}
}

func TestARoundBringsWhatChangedSinceTheLast(t *testing.T) {
	t.Parallel()
	a, b, ctx := newCell(t), newCell(t), t.Context()
	for i := range 1200 {
		must(t, a.Set(ctx, key(tenant, 1, i), nil, 0))
	}
	if n := round(t, a, b, first, false); n != 1200 {
		t.Errorf("first round: %d keys", n)
	}
	must(t, a.Set(ctx, key(tenant, 1, 5), []byte("x"), 0))
	must(t, a.Delete(ctx, key(tenant, 1, 6)))
	must(t, a.Delete(ctx, key(tenant, 1, "never was")))
	if n := round(t, a, b, first, false); n != 3 {
		t.Errorf("second round: %d keys, want 3", n)
	}
	sameContents(t, b.contents(t, tenant), a.contents(t, tenant))

	// A source that has lost what it noted sends everything again.
	must(t, a.Delete(ctx, key(tenant, 1, 7)))
	must(t, a.raw.Del(ctx, "{t:7}:move:noting").Err())
	round(t, a, b, first, false)
	sameContents(t, b.contents(t, tenant), a.contents(t, tenant))
	must(t, a.raw.FlushAll(ctx).Err())
	must(t, a.Set(ctx, key(tenant, 1, "new"), nil, 0))
	if n := round(t, a, b, first, false); n != 1 {
		t.Errorf("after the loss: %d keys, want 1", n)
	}
	sameContents(t, b.contents(t, tenant), a.contents(t, tenant))
}

func TestAPageIsBounded(t *testing.T) {
	t.Parallel()
	a, ctx := newCell(t), t.Context()
	for i := range 40 {
		must(t, a.Set(ctx, key(tenant, 1, i), make([]byte, keep.MaxValue), 0))
	}
	size, since, pages := 0, int64(0), 0
	for more := true; more; pages++ {
		p, err := a.Changes(ctx, first, since, false)
		must(t, err)
		for _, v := range p.Values {
			size += len(v.Value)
		}
		since, more = p.Reached, p.More
	}
	if want := 40 * keep.MaxValue; size != want || pages != 3 {
		t.Errorf("got %d bytes in %d pages, want %d in 3", size, pages, want)
	}
}

func TestALateMoveWritesNothing(t *testing.T) {
	t.Parallel()
	a, b, ctx := newCell(t), newCell(t), t.Context()
	must(t, a.Set(ctx, key(tenant, 1, "x"), []byte("old"), 0))
	_, err := b.Begin(ctx, first)
	must(t, err)
	p, err := a.Changes(ctx, first, 0, false)
	must(t, err)
	// The target serves the tenant already.
	must(t, b.Set(ctx, key(tenant, 2, "x"), []byte("new"), 0))
	for name, late := range map[string]func() error{
		"apply":             func() error { return b.Apply(ctx, first, p) },
		"begin":             func() error { _, err := b.Begin(ctx, first); return err },
		"begin of an older": func() error { _, err := b.Begin(ctx, keep.Move{ID: "mv_0", Tenant: tenant, Epoch: 1}); return err },
		"purge of an older": func() error { return b.Purge(ctx, tenant, 1) },
	} {
		if err := late(); !errors.Is(err, problem.Conflict) {
			t.Errorf("late %s: got %v, want conflict", name, err)
		}
	}
	if v, _, _ := b.Get(ctx, key(tenant, 2, "x")); string(v) != "new" {
		t.Errorf("got %q, want new", v)
	}
}

func TestOnlyKeysOfTheTenantThatMoveAreTaken(t *testing.T) {
	t.Parallel()
	b, ctx := newCell(t), t.Context()
	_, err := b.Begin(ctx, first)
	must(t, err)
	for _, name := range []string{"{t:8}:keep:test:x", "{t:7}:projects:summary", "{t:7}:move:fence", "{t:7}:rate:other", "x", ""} {
		if err := b.Apply(ctx, first, keep.Page{Values: []keep.Value{{Name: name}}}); !errors.Is(err, problem.Invalid) {
			t.Errorf("%q: got %v, want invalid", name, err)
		}
	}
}

// TestPurgeLeavesTheFence: and nothing else of that tenant, and all of others.
func TestPurgeLeavesTheFence(t *testing.T) {
	t.Parallel()
	a, b, ctx := newCell(t), newCell(t), t.Context()
	for i := range 1200 {
		must(t, a.Set(ctx, key(tenant, 1, i), nil, time.Hour))
	}
	must(t, a.Set(ctx, key(neighbour, 1, "x"), nil, 0))
	must(t, a.raw.Set(ctx, keep.Rate(tenant), "1", time.Hour).Err())
	round(t, a, b, first, true)
	must(t, a.Purge(ctx, tenant, 2))
	must(t, a.Purge(ctx, tenant, 2)) // again
	left, err := a.raw.Keys(ctx, "{t:7}:*").Result()
	must(t, err)
	if len(left) != 1 || left[0] != "{t:7}:move:fence" {
		t.Errorf("left: %v", left)
	}
	if len(a.contents(t, neighbour)) != 1 {
		t.Error("the neighbour's key is gone")
	}
	if err := a.Set(ctx, key(tenant, 1, "x"), nil, 0); !errors.Is(err, problem.Stale) {
		t.Errorf("write after the purge: got %v, want stale", err)
	}
}

// TestThereAndBack: an undo brings everything, over what was left at the source,
// and an aborted move lets the source write on.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	a, b, ctx := newCell(t), newCell(t), t.Context()
	set := func(c cell, e directory.Epoch, part, value string) {
		t.Helper()
		must(t, c.Set(ctx, key(tenant, e, part), []byte(value), 0))
	}
	set(a, 1, "x", "1")
	set(a, 1, "y", "1")
	round(t, a, b, first, true)
	// Aborted behind the freeze: the target forgets, the source goes on at epoch 3.
	must(t, b.Purge(ctx, tenant, 2))
	set(a, 3, "x", "3")

	again := keep.Move{ID: "mv_2", Tenant: tenant, Epoch: 4}
	round(t, a, b, again, false)
	round(t, a, b, again, true)
	set(b, 4, "x", "4")
	must(t, b.Delete(ctx, key(tenant, 4, "y")))
	set(b, 4, "z", "4")

	undo := keep.Move{ID: "mv_3", Tenant: tenant, Epoch: 5}
	round(t, b, a, undo, true)
	sameContents(t, a.contents(t, tenant), b.contents(t, tenant))
	set(a, 5, "x", "5")
	if err := b.Set(ctx, key(tenant, 4, "x"), nil, 0); !errors.Is(err, problem.Stale) {
		t.Errorf("write at the other side: got %v, want stale", err)
	}
	if len(a.contents(t, tenant)) != 2 {
		t.Errorf("after the undo: %v", a.contents(t, tenant))
	}
}
