package cell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
)

// A Key names something of one tenant in a Cache: "{t:17}:projects:summary:proj_1@3".
// It ends with the tenant's epoch: what was remembered before a move, at this cell
// or another, is never seen after it. The zero Key names nothing and is refused, so
// that nothing is ever written without a tenant.
type Key struct{ name string }

// NewKey makes a key of the transaction's tenant: it can only be had once the
// fence was entered. module and parts are free of ":". It is the zero Key where
// module is a class of package keep.
func NewKey(tx *store.Tx, module string, parts ...string) Key {
	if keep.Reserved(module) {
		return Key{}
	}
	return Key{fmt.Sprintf("{t:%d}:%s@%d", tx.Tenant, strings.Join(append([]string{module}, parts...), ":"), tx.Epoch)}
}

// String is the key as Redis has it.
func (k Key) String() string { return k.name }

// How long the API waits for Redis. It can do without; see Cache.
const (
	redisDialTimeout = 250 * time.Millisecond
	redisTimeout     = 100 * time.Millisecond
	redisPause       = time.Second // not asked for so long after redisFailures in a row
	redisFailures    = 3
)

// A Cache is the cell's Redis as the API uses it: never needed, and bounded in
// time. While Redis is gone every Get misses, every Set is dropped and nothing
// waits: after a few failures Redis is left alone for a second.
type Cache struct {
	rdb     *redis.Client
	breaker circuitbreaker.CircuitBreaker[any]
}

// OpenCache makes a Cache for a redis:// URL. It does not connect: the cell starts
// without Redis too.
func OpenCache(url string, log *slog.Logger) (*Cache, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("parse redis url: not a redis:// URL") // the text may hold a password
	}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = redisDialTimeout, redisTimeout, redisTimeout
	opt.PoolTimeout = redisTimeout
	opt.MaxRetries, opt.DialerRetries, opt.ContextTimeoutEnabled = -1, 1, true
	rdb := redis.NewClient(opt)
	if err := keep.Trace(rdb); err != nil {
		return nil, err
	}
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(redisFailures).WithDelay(redisPause).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			log.Warn("redis changed its state; the API goes on without it unless closed", "state", e.NewState.String())
		}).Build()
	return &Cache{rdb: rdb, breaker: breaker}, nil
}

// Get is what Set stored under k, unless its time is over or Redis is gone.
func (c *Cache) Get(ctx context.Context, k Key) (value []byte, ok bool) {
	err := c.try(ctx, k, func(ctx context.Context) (err error) {
		value, err = c.rdb.Get(ctx, k.name).Bytes()
		return err
	})
	return value, err == nil
}

// Set stores value for ttl, which must be positive. Nothing is kept when Redis is gone.
func (c *Cache) Set(ctx context.Context, k Key, value []byte, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	_ = c.try(ctx, k, func(ctx context.Context) error { // the breaker has seen the error
		return c.rdb.Set(ctx, k.name, value, ttl).Err()
	})
}

// Close closes the connections.
func (c *Cache) Close() error { return c.rdb.Close() }

// errNoRedis says that Redis was not asked.
var errNoRedis = errors.New("redis is not asked now")

// try runs one command, unless Redis has failed just before.
func (c *Cache) try(ctx context.Context, k Key, f func(ctx context.Context) error) error {
	if k.name == "" {
		return errors.New("redis: the key has no tenant")
	}
	if !c.breaker.TryAcquirePermit() {
		return errNoRedis
	}
	// A caller that goes away says nothing about Redis: it must not open the breaker.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisDialTimeout+redisTimeout)
	defer cancel()
	err := f(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		c.breaker.RecordFailure()
		return err
	}
	c.breaker.RecordSuccess()
	return err
}
