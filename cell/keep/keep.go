// Package keep is what a cell's Redis keeps of a tenant besides caches: durable
// values, and the state of its limits. Both move with the tenant and keep their
// time to live; caches never do.
//
// The class of a key is its second segment: "{t:17}:keep:..." is durable,
// "{t:17}:rate:..." a limit, "{t:17}:move:..." belongs to this package, and
// everything else is cache. Redis is not the authority: a value that must never be
// lost belongs into Postgres.
package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// MaxValue is the greatest length of a value, in bytes.
const MaxValue = 64 << 10

// Redis is left alone for a pause after so many failures in a row.
const (
	pause    = time.Second
	failures = 3
)

// Options of a Keep; the zero value is as in production.
type Options struct {
	Timeout time.Duration // of one command, if its caller's is not shorter; 0 is 500 ms
	Log     *slog.Logger  // nil discards
}

// A Key names a durable value of one tenant: "{t:17}:keep:projects:seen:usr_1". It
// knows the epoch at which its maker passed the fence. The zero Key is refused.
type Key struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	name   string
}

// NewKey makes a key of the transaction's tenant: it can only be had once the
// fence was entered. module and parts are free of ":".
func NewKey(tx *store.Tx, module string, parts ...string) Key {
	return Key{tx.Tenant, tx.Epoch, kept(tx.Tenant) + strings.Join(append([]string{module}, parts...), ":")}
}

// String is the key as Redis has it.
func (k Key) String() string { return k.name }

// A Keep is a cell's Redis as modules use it for durable values and as moves use
// it. A write is not part of the transaction that its key comes from: it is there
// also where that one rolls back.
type Keep struct {
	rdb     *redis.Client
	breaker circuitbreaker.CircuitBreaker[any]
	timeout time.Duration
}

// Open makes a Keep for a redis:// URL. It does not connect.
func Open(url string, o Options) (*Keep, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("parse redis url: not a redis:// URL") // the text may hold a password
	}
	timeout, log := cmp.Or(o.Timeout, 500*time.Millisecond), cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = timeout, timeout, timeout, timeout
	opt.MaxRetries, opt.DialerRetries, opt.ContextTimeoutEnabled = -1, 1, true
	rdb := redis.NewClient(opt)
	if err := Trace(rdb); err != nil {
		return nil, err
	}
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(failures).WithDelay(pause).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			log.Warn("redis changed its state; durable keys are not to be had unless closed", "state", e.NewState.String())
		}).Build()
	return &Keep{rdb: rdb, breaker: breaker, timeout: timeout}, nil
}

// Trace has rdb's commands traced by their names alone: arguments are tenants' data, and
// whoever takes traces keeps them apart from row security and from a tenant's deletion.
// A pipeline is not traced, since its text is made even where nobody takes it.
func Trace(rdb *redis.Client) error {
	err := redisotel.InstrumentTracing(rdb, redisotel.WithDBStatement(false),
		redisotel.WithCommandsFilter(func([]redis.Cmder) bool { return true }))
	if err != nil {
		return fmt.Errorf("trace redis: %w", err)
	}
	return nil
}

// Close closes the connections.
func (k *Keep) Close() error { return k.rdb.Close() }

// Get is what Set stored; ok is false where there is nothing, or its time is over.
// Unavailable: Redis does not answer.
func (k *Keep) Get(ctx context.Context, key Key) (value []byte, ok bool, err error) {
	if key.name == "" {
		return nil, false, errNoTenant
	}
	err = k.try(ctx, func(ctx context.Context) (err error) {
		value, err = k.rdb.Get(ctx, key.name).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// Set stores value for ttl; 0 is without end. Stale: the tenant has left, or is
// leaving, the cell at which the key was made, and nothing was stored. TooLarge:
// value is longer than MaxValue. Unavailable: Redis does not answer, and the value
// may or may not be stored.
func (k *Keep) Set(ctx context.Context, key Key, value []byte, ttl time.Duration) error {
	if len(value) > MaxValue {
		return problem.New(problem.TooLarge, "a durable value is at most %d bytes long", MaxValue)
	}
	if ttl < 0 || (ttl > 0 && ttl < time.Millisecond) {
		return fmt.Errorf("store %s: ttl %s is less than a millisecond", key, ttl)
	}
	return k.write(ctx, key, "set", value, ttl.Milliseconds())
}

// Delete removes the value. The errors are those of Set.
func (k *Keep) Delete(ctx context.Context, key Key) error {
	return k.write(ctx, key, "delete", "", 0)
}

var errNoTenant = errors.New("redis: the key has no tenant")

func (k *Keep) write(ctx context.Context, key Key, verb string, value any, ttl int64) error {
	if key.name == "" {
		return errNoTenant
	}
	n := namesOf(key.tenant)
	var fence int64
	err := k.try(ctx, func(ctx context.Context) (err error) {
		fence, err = writeScript.Run(ctx, k.rdb, []string{key.name, n.fence, n.received, n.index, n.version, n.noting},
			int64(key.epoch), verb, value, ttl).Int64()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, key, err)
	}
	if fence != 0 {
		return problem.New(problem.Stale, "this cell does not serve the tenant at that epoch").With("epoch", fmt.Sprint(fence))
	}
	return nil
}

// try runs one command, unless Redis has failed just before. What goes wrong with
// Redis is Unavailable; redis.Nil comes back as it is.
func (k *Keep) try(ctx context.Context, f func(ctx context.Context) error) error {
	if !k.breaker.TryAcquirePermit() {
		return problem.New(problem.Unavailable, "the cell's redis does not answer")
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	err := f(ctx)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		k.breaker.RecordSuccess()
		return err
	case errors.Is(ctx.Err(), context.Canceled): // a caller that goes away says nothing about Redis
		k.breaker.RecordSuccess()
	default:
		k.breaker.RecordFailure()
	}
	return problem.Wrap(problem.Unavailable, err, "the cell's redis does not answer")
}
