package cell_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

func redisKeys(t *testing.T, url string) []string {
	t.Helper()
	all, err := testkit.RedisClient(t, url).Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Error("no key in redis")
	}
	return all
}

// useEverything performs one request of each kind that touches Redis.
func useEverything(h *harness) {
	h.t.Helper()
	p := h.createProject(acme, "Moon")
	h.createTask(acme, p.ID, "fuel")
	for range 2 {
		h.want(200, request{method: "GET", path: "/v1/projects/" + p.ID + "/summary"})
	}
}

func TestTheAPIGoesOnWithoutRedis(t *testing.T) {
	t.Parallel()
	h := start(t)
	useEverything(h)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = testkit.RedisClient(t, h.redisURL).ShutdownNoSave(ctx).Err() // the answer is the closed connection
	for range 3 {
		useEverything(h)
	}
}

func TestTheAPIGoesOnWhileRedisHangs(t *testing.T) {
	t.Parallel()
	h := start(t)
	useEverything(h)
	if err := testkit.RedisClient(t, h.redisURL).Do(t.Context(), "CLIENT", "PAUSE", "60000", "ALL").Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		useEverything(h)
	}
}

func TestEveryKeyHasATTL(t *testing.T) {
	t.Parallel()
	h := start(t)
	useEverything(h)
	c := testkit.RedisClient(t, h.redisURL)
	all := redisKeys(t, h.redisURL)
	if !slices.ContainsFunc(all, func(k string) bool { return len(k) > 24 && k[:24] == "{t:101}:projects:summary" }) {
		t.Errorf("no summary among %v", all)
	}
	for _, k := range all {
		if ttl := c.PTTL(t.Context(), k).Val(); ttl < 0 {
			t.Errorf("key %s has no ttl", k)
		}
	}
}

// TestWhatIsCachedEndsWithItsEpoch: a tenant that comes back from a move is told
// nothing that its cell has cached before it.
func TestWhatIsCachedEndsWithItsEpoch(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	total := func(epoch directory.Epoch) int64 {
		t.Helper()
		path := "/v1/projects/" + p.ID + "/summary"
		return decode[projects.ProjectSummary](t, h.want(200, request{method: "GET", path: path, epoch: epoch})).Total
	}
	total(1)
	c := testkit.RedisClient(t, h.redisURL)
	for _, k := range redisKeys(t, h.redisURL) { // however long this takes
		if err := c.Persist(t.Context(), k).Err(); err != nil {
			t.Fatal(err)
		}
	}
	h.createTask(acme, p.ID, "fuel")
	if got := total(1); got != 0 {
		t.Fatalf("total: got %d, want the cached 0: nothing is tried here", got)
	}
	if _, err := fence.Freeze(t.Context(), h.store.DB(), acme, 1, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := fence.Activate(t.Context(), h.store.DB(), acme, 2, 3, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	if got := total(3); got != 1 {
		t.Errorf("total at another epoch: got %d, want 1", got)
	}
}

func TestTheZeroKeyIsRefused(t *testing.T) {
	t.Parallel()
	h := start(t)
	useEverything(h)
	before := len(redisKeys(t, h.redisURL))
	h.cache.Set(t.Context(), cell.Key{}, []byte("x"), time.Minute)
	if _, ok := h.cache.Get(t.Context(), cell.Key{}); ok {
		t.Error("a value without a tenant")
	}
	if got := len(redisKeys(t, h.redisURL)); got != before {
		t.Errorf("keys: got %d, want %d", got, before)
	}
}
