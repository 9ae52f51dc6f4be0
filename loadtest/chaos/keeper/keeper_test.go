package keeper

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// open is a cell of which only its Redis is there.
func open(t *testing.T) *Cell {
	t.Helper()
	url := testkit.Redis(t)
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keep.Open(url, keep.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &Cell{keep: k, redis: redis.NewClient(opt)}
	t.Cleanup(func() { _, _ = k.Close(), c.redis.Close() }) // nothing of it is needed any more
	return c
}

func key(t directory.TenantID, e directory.Epoch, name string) keep.Key {
	return keep.NewKey(&store.Tx{Tenant: t, Epoch: e}, module, name)
}

// TestReceived: a target's Redis tells whether the end of a move's last round has come, until
// the tenant writes there; what is not told of the move that is meant says nothing of it.
func TestReceived(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), open(t)
	move := keep.Move{ID: "mv_1", Tenant: 7, Epoch: 2}
	want := func(when string, want Receipt) {
		t.Helper()
		got, err := c.Received(ctx, 7)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", when, got, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	page := func(final, more bool) keep.Page {
		return keep.Page{Final: final, More: more, Reached: 9, Values: []keep.Value{{Name: key(7, 2, "a").String(), Value: []byte("1"), Expires: -1}}}
	}
	want("before", Receipt{})
	_, err := c.keep.Begin(ctx, move)
	must(err)
	want("begun", Receipt{Move: "mv_1"})
	must(c.keep.Apply(ctx, move, page(false, false)))
	want("a round", Receipt{Move: "mv_1"})
	must(c.keep.Apply(ctx, move, page(true, true)))
	want("a page of the last round", Receipt{Move: "mv_1"})
	must(c.keep.Apply(ctx, move, page(true, false)))
	want("all", Receipt{Move: "mv_1", All: true})
	must(c.keep.Clear(ctx, move))
	want("all of it anew", Receipt{Move: "mv_1"})
	must(c.keep.Set(ctx, key(7, 2, "b"), []byte("2"), 0))
	want("in use", Receipt{})
}

// TestDurable: what a tenant has left is found, and nothing else.
func TestDurable(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), open(t)
	for _, k := range []keep.Key{key(7, 1, "a"), key(7, 1, "b"), key(77, 1, "a")} {
		if err := c.keep.Set(ctx, k, []byte("1"), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{keep.Rate(7), "{t:7}:projects:cached"} {
		if err := c.redis.Set(ctx, name, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Durable(ctx, 7)
	if want := []string{key(7, 1, "a").String(), key(7, 1, "b").String()}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := c.keep.Purge(ctx, 7, 2); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Durable(ctx, 7); err != nil || len(got) > 0 {
		t.Errorf("purged: got %q, %v", got, err)
	}
}
