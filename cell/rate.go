package cell

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A limiter holds each tenant to a rate. It fails open: without Redis there is no
// limit, because one component's fault must not become every tenant's.
type limiter struct {
	cache *Cache
	rate  *redis_rate.Limiter
	limit redis_rate.Limit
}

// newLimiter allows perMinute requests a minute to each tenant; 0 is no limit.
func newLimiter(c *Cache, perMinute int) *limiter {
	return &limiter{cache: c, rate: redis_rate.NewLimiter(tenantFirst{c.rdb}), limit: redis_rate.PerMinute(perMinute)}
}

// allow takes one from the tenant's allowance and writes what is left into h.
func (l *limiter) allow(ctx context.Context, t directory.TenantID, h http.Header) error {
	if l.limit.Rate <= 0 {
		return nil
	}
	var res *redis_rate.Result
	key := Key{keep.Rate(t)} // moves with the tenant
	err := l.cache.try(ctx, key, func(ctx context.Context) (err error) {
		res, err = l.rate.Allow(ctx, key.String(), l.limit)
		return err
	})
	h.Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d;w=%d`, l.limit.Rate, int(l.limit.Period.Seconds())))
	if err != nil {
		return nil //nolint:nilerr // fails open; the breaker has logged it
	}
	h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, res.Remaining, int(math.Ceil(res.ResetAfter.Seconds()))))
	if res.Allowed > 0 {
		return nil
	}
	e := problem.New(problem.RateLimited, "more than %d requests a minute", l.limit.Rate)
	e.RetryAfter = max(res.RetryAfter, time.Millisecond)
	return e
}

// tenantFirst drops the prefix that redis_rate puts before its keys: all keys of a
// tenant begin with the tenant, so that they can be found and moved.
type tenantFirst struct{ *redis.Client }

func bare(keys []string) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = strings.TrimPrefix(k, "rate:")
	}
	return out
}

// Eval is redis.Client's, on bare keys.
func (c tenantFirst) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.Client.Eval(ctx, script, bare(keys), args...)
}

// EvalSha is redis.Client's, on bare keys.
func (c tenantFirst) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.Client.EvalSha(ctx, sha, bare(keys), args...)
}
