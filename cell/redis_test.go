package cell_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell"
)

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func redisKeys(t *testing.T, url string) []string {
	t.Helper()
	all, err := redisClient(t, url).Keys(t.Context(), "*").Result()
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
	_ = redisClient(t, h.redisURL).ShutdownNoSave(ctx).Err() // the answer is the closed connection
	for range 3 {
		useEverything(h)
	}
}

func TestTheAPIGoesOnWhileRedisHangs(t *testing.T) {
	t.Parallel()
	h := start(t)
	useEverything(h)
	if err := redisClient(t, h.redisURL).Do(t.Context(), "CLIENT", "PAUSE", "60000", "ALL").Err(); err != nil {
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
	c := redisClient(t, h.redisURL)
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
