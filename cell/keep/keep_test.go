package keep_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	tenant    = directory.TenantID(7)
	neighbour = directory.TenantID(8)
)

// A cell is one cell's Redis: as modules use it, and raw.
type cell struct {
	*keep.Keep
	raw *redis.Client
}

func newCell(t *testing.T) cell { return newCellWith(t, keep.Options{Timeout: 30 * time.Second}) }

func newCellWith(t *testing.T, o keep.Options) cell {
	t.Helper()
	url := testkit.Redis(t)
	k, err := keep.Open(url, o)
	must(t, err)
	t.Cleanup(func() { _ = k.Close() })
	return cell{k, testkit.RedisClient(t, url)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// key is one that a module made in a transaction at the epoch.
func key(t directory.TenantID, e directory.Epoch, part any) keep.Key {
	return keep.NewKey(&store.Tx{Tenant: t, Epoch: e}, "test", fmt.Sprint(part))
}

// contents is every durable key and limit of the tenant, with its value and expiry.
func (c cell) contents(t *testing.T, of directory.TenantID) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, class := range []string{"keep", "rate"} {
		names, err := c.raw.Keys(t.Context(), fmt.Sprintf("{t:%d}:%s:*", of, class)).Result()
		must(t, err)
		for chunk := range slices.Chunk(names, 1000) {
			pipe := c.raw.Pipeline()
			for _, n := range chunk {
				pipe.Get(t.Context(), n)
				pipe.PExpireTime(t.Context(), n)
			}
			got, err := pipe.Exec(t.Context())
			must(t, err)
			for i, n := range chunk {
				out[n] = fmt.Sprintf("%s until %s", got[2*i].(*redis.StringCmd).Val(), got[2*i+1].(*redis.DurationCmd).Val())
			}
		}
	}
	return out
}

func sameContents(t *testing.T, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d keys, want %d", len(got), len(want))
	}
	wrong := 0
	for n, w := range want {
		if got[n] != w {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: got %q, want %q", n, got[n], w)
			}
		}
	}
}

func TestAValueStaysUntilItsTimeIsOver(t *testing.T) {
	t.Parallel()
	c, ctx := newCell(t), t.Context()
	k := key(tenant, 1, "x")
	if got := k.String(); got != "{t:7}:keep:test:x" {
		t.Errorf("name: got %s", got)
	}
	if _, ok, err := c.Get(ctx, k); ok || err != nil {
		t.Errorf("before: got %v, %v", ok, err)
	}
	must(t, c.Set(ctx, k, []byte("one"), 0))
	if ttl := c.raw.PTTL(ctx, k.String()).Val(); ttl != -1 {
		t.Errorf("ttl: got %s, want none", ttl)
	}
	must(t, c.Set(ctx, k, []byte("two"), time.Hour))
	if v, ok, err := c.Get(ctx, k); string(v) != "two" || !ok || err != nil {
		t.Errorf("got %q, %v, %v", v, ok, err)
	}
	if ttl := c.raw.PTTL(ctx, k.String()).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("ttl: got %s, want an hour", ttl)
	}
	must(t, c.Delete(ctx, k))
	if _, ok, err := c.Get(ctx, k); ok || err != nil {
		t.Errorf("after: got %v, %v", ok, err)
	}
	if n := c.raw.ZCard(ctx, "{t:7}:move:index").Val(); n != 0 {
		t.Errorf("%d keys in the index", n)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	c, ctx := newCell(t), t.Context()
	k := key(tenant, 1, "x")
	if err := c.Set(ctx, k, make([]byte, keep.MaxValue+1), 0); !errors.Is(err, problem.TooLarge) {
		t.Errorf("too large: got %v", err)
	}
	for _, ttl := range []time.Duration{-1, time.Microsecond} {
		if c.Set(ctx, k, nil, ttl) == nil {
			t.Errorf("ttl %s was accepted", ttl)
		}
	}
	if c.Set(ctx, keep.Key{}, nil, 0) == nil || c.Delete(ctx, keep.Key{}) == nil {
		t.Error("a write without a tenant was accepted")
	}
	if _, _, err := c.Get(ctx, keep.Key{}); err == nil {
		t.Error("a read without a tenant was accepted")
	}
	if n := c.raw.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
}

// TestAWriteOfAnOlderEpochIsRefused: who passed the fence before the tenant left
// and came back writes no more.
func TestAWriteOfAnOlderEpochIsRefused(t *testing.T) {
	t.Parallel()
	c, ctx := newCell(t), t.Context()
	must(t, c.Set(ctx, key(tenant, 3, "x"), []byte("new"), 0))
	for name, write := range map[string]func() error{
		"set":    func() error { return c.Set(ctx, key(tenant, 2, "x"), []byte("old"), 0) },
		"delete": func() error { return c.Delete(ctx, key(tenant, 2, "x")) },
	} {
		if err := write(); !errors.Is(err, problem.Stale) {
			t.Errorf("%s: got %v, want stale", name, err)
		}
	}
	if v, _, _ := c.Get(ctx, key(tenant, 3, "x")); string(v) != "new" {
		t.Errorf("got %q, want new", v)
	}
	must(t, c.Set(ctx, key(neighbour, 1, "x"), nil, 0))
}

// TestTheIndexForgetsWhatHasExpired: keys that end by their TTL do not pile up in it.
func TestTheIndexForgetsWhatHasExpired(t *testing.T) {
	t.Parallel()
	c, ctx := newCell(t), t.Context()
	const n = 2000
	must(t, c.Set(ctx, key(tenant, 1, "long"), nil, 0))
	for i := range n {
		must(t, c.Set(ctx, key(tenant, 1, i), nil, time.Millisecond))
	}
	if got := c.raw.ZCard(ctx, "{t:7}:move:index").Val(); got > n/4 {
		t.Errorf("%d keys in the index, one is alive", got)
	}
	if c.raw.ZScore(ctx, "{t:7}:move:index", "{t:7}:keep:test:long").Err() != nil {
		t.Error("the one that is alive is not in the index")
	}
}

func TestWithoutRedisNothingWaitsForLong(t *testing.T) {
	t.Parallel()
	c := newCellWith(t, keep.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, c.raw.Do(ctx, "CLIENT", "PAUSE", "60000", "ALL").Err())
	for range 100 {
		if err := c.Set(ctx, key(tenant, 1, "x"), nil, 0); !errors.Is(err, problem.Unavailable) {
			t.Fatalf("set: got %v, want unavailable", err)
		}
	}
	if ctx.Err() != nil {
		t.Error("100 writes took 20 s")
	}
	if _, err := keep.Open("http://:secret@h", keep.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("malformed url: got %v", err)
	}
}
