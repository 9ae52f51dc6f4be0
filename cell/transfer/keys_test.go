package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

// A keyed cell is a cell with a Redis, behind its transfer endpoint.
type keyed struct {
	*cell
	*client.Client
	url  string
	keys token.Keys // the movers'
	keep *keep.Keep
	raw  *redis.Client
	side *transfer.Keys
	reg  *prometheus.Registry
}

// keyedPair is two such cells, tenant 7 at A.
func keyedPair(t *testing.T) (a, b *keyed) {
	t.Helper()
	return keyedPairOf(t, "")
}

// keyedPairOf is keyedPair with tables of a module's.
func keyedPairOf(t *testing.T, ddl string, tables ...string) (a, b *keyed) {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	must(t, err)
	one := func(id directory.CellID) *keyed {
		c := &keyed{cell: newCell(t, id, ddl, tables...), reg: prometheus.NewRegistry()}
		url := testkit.Redis(t)
		c.keep, err = keep.Open(url, keep.Options{Timeout: 30 * time.Second})
		must(t, err)
		c.raw = testkit.RedisClient(t, url)
		side := transfer.NewKeys(c.keep, slog.New(slog.DiscardHandler))
		side.Wait, c.side = 30*time.Second, side
		side.Register(c.reg)
		server := httptest.NewServer((&transfer.Server{
			Steps: c.Steps, Source: c.source, Target: c.target, Purger: c.purger, Redis: side, Pool: c.mover,
			Keys: keys.Public(), Client: &http.Client{}, Log: slog.New(slog.DiscardHandler),
		}).Handler())
		t.Cleanup(func() {
			server.Close()
			_ = c.keep.Close()
		})
		c.url, c.keys = server.URL, keys
		c.Client = client.New(client.Mover{ID: "mover-1", Keys: keys}, id, c.url, server.Client())
		return c
	}
	a, b = one("a"), one("b")
	_, err = fence.Admit(t.Context(), a.app.DB(), mover, 1)
	must(t, err)
	return a, b
}

func durable(e directory.Epoch, part any) keep.Key {
	return keep.NewKey(&store.Tx{Tenant: mover, Epoch: e}, "test", fmt.Sprint(part))
}

// lost is how often a last round into the cell went on without the keys.
func (c *keyed) lost(t *testing.T) string {
	t.Helper()
	all, err := c.reg.Gather()
	must(t, err)
	return fmt.Sprint(len(all), all[0].GetMetric()[0].GetCounter().GetValue())
}

// toFrozen takes the move up to the freeze, and toActive from there to the activation.
func toFrozen(t *testing.T, a, b *keyed, m transfer.Move) {
	t.Helper()
	ctx := t.Context()
	must(t, b.Client.Reserve(ctx, m))
	must(t, a.Client.Arm(ctx, m, wait))
	_, err := b.Pull(ctx, m, a.url, false)
	must(t, err)
	must(t, a.Client.Freeze(ctx, m, wait))
}

func toActive(t *testing.T, a, b *keyed, m transfer.Move) {
	t.Helper()
	ctx := t.Context()
	got, err := b.Pull(ctx, m, a.url, true)
	must(t, err)
	if !got.Final {
		t.Error("the last round is not final")
	}
	must(t, b.Client.Activate(ctx, m))
	must(t, a.Client.Retire(ctx, m))
}

func (c *keyed) want(t *testing.T, e directory.Epoch, part, want string) {
	t.Helper()
	if v, ok, err := c.keep.Get(t.Context(), durable(e, part)); string(v) != want || ok != (want != "") || err != nil {
		t.Errorf("%s: got %q, %v, %v, want %q", part, v, ok, err, want)
	}
}

// TestKeysMoveWithTheTenant: there, with a limit that is used up, and back.
func TestKeysMoveWithTheTenant(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	must(t, a.keep.Set(ctx, durable(1, "x"), []byte("1"), 0))
	must(t, a.keep.Set(ctx, durable(1, "gone"), []byte("1"), time.Hour))
	used := func(c *keyed) bool {
		t.Helper()
		r, err := redis_rate.NewLimiter(bareKeys{c.raw}).Allow(ctx, keep.Rate(mover), redis_rate.PerHour(1))
		must(t, err)
		return r.Allowed == 0
	}
	if used(a) || !used(a) {
		t.Fatal("the limit does not hold at the source")
	}

	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	toFrozen(t, a, b, m)
	// Let in before the freeze: still heard, until the last round has begun.
	must(t, a.keep.Set(ctx, durable(1, "late"), []byte("1"), 0))
	must(t, a.keep.Delete(ctx, durable(1, "gone")))
	toActive(t, a, b, m)
	if err := a.keep.Set(ctx, durable(1, "later"), nil, 0); !errors.Is(err, problem.Stale) {
		t.Errorf("write after the last round: got %v, want stale", err)
	}
	b.want(t, 2, "x", "1")
	b.want(t, 2, "late", "1")
	b.want(t, 2, "gone", "")
	if !used(b) {
		t.Error("the tenant has its whole allowance again")
	}

	must(t, b.keep.Set(ctx, durable(2, "x"), []byte("2"), 0))
	back := transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: "mv_1"}
	toFrozen(t, b, a, back)
	toActive(t, b, a, back)
	a.want(t, 3, "x", "2")
	must(t, a.keep.Set(ctx, durable(3, "x"), []byte("3"), 0))
	_, err := b.Purge(ctx, back)
	must(t, err)
	if left := b.raw.Keys(ctx, "{t:7}:*").Val(); len(left) != 1 {
		t.Errorf("left at the other side: %v", left)
	}
	a.want(t, 3, "x", "3")
	if a.lost(t) != "1 0" || b.lost(t) != "1 0" {
		t.Errorf("lost: %s and %s", a.lost(t), b.lost(t))
	}
}

// TestAnAbortedMoveLeavesNoKey at the target, and all of them at the source.
func TestAnAbortedMoveLeavesNoKey(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	must(t, a.keep.Set(ctx, durable(1, "x"), []byte("1"), 0))
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	toFrozen(t, a, b, m)
	_, err := b.Pull(ctx, m, a.url, true)
	must(t, err)
	must(t, a.Client.Release(ctx, m))
	must(t, b.Client.Discard(ctx, m))
	_, err = b.Purge(ctx, m)
	must(t, err)
	a.want(t, 3, "x", "1")
	must(t, a.keep.Set(ctx, durable(3, "x"), []byte("3"), 0))
	if left := b.raw.Keys(ctx, "{t:7}:*").Val(); len(left) != 1 || !strings.HasSuffix(left[0], ":fence") {
		t.Errorf("left at the target: %v", left)
	}
}

// TestACompletedMoveLeavesNoKey at its source, also where it was to be undone and that was
// aborted.
func TestACompletedMoveLeavesNoKey(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	must(t, a.keep.Set(ctx, durable(1, "x"), []byte("1"), 0))
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	toFrozen(t, a, b, m)
	toActive(t, a, b, m)
	back := transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: m.ID}
	must(t, a.Client.Reserve(ctx, back))
	must(t, b.Client.Arm(ctx, back, time.Second))
	_, err := a.Pull(ctx, back, b.url, false)
	must(t, err)
	must(t, b.Client.Release(ctx, back))
	must(t, a.Client.Discard(ctx, back))
	_, err = a.Purge(ctx, m)
	must(t, err)
	if left := a.raw.Keys(ctx, "{t:7}:*").Val(); len(left) != 1 || !strings.HasSuffix(left[0], ":fence") {
		t.Errorf("left at the source: %v", left)
	}
	b.want(t, 4, "x", "1")
}

// TestAMoveGoesOnWithoutRedis: dead at the source or at the target from before the
// last round on, the move ends as ever, and says that it has lost the keys.
func TestAMoveGoesOnWithoutRedis(t *testing.T) {
	t.Parallel()
	for _, dead := range []string{"source", "target"} {
		t.Run(dead, func(t *testing.T) {
			t.Parallel()
			a, b := keyedPair(t)
			ctx := t.Context()
			must(t, a.keep.Set(ctx, durable(1, "x"), []byte("1"), 0))
			m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
			toFrozen(t, a, b, m)
			victim := a
			if dead == "target" {
				victim = b
			}
			_ = victim.raw.ShutdownNoSave(ctx).Err() // the answer is the closed connection
			toActive(t, a, b, m)
			if got := b.lost(t); got != "1 1" {
				t.Errorf("lost: got %s, want 1 1", got)
			}
			if dead == "source" {
				b.want(t, 2, "x", "1") // the earlier round brought it
			}
			if _, err := a.Purge(ctx, m); errors.Is(err, problem.Unavailable) != (dead == "source") {
				t.Errorf("purge: got %v, want to be asked again where what is there cannot be removed", err)
			}
		})
	}
}

// TestAnUndoWithoutRedisSetsNothingBack: where the other cell's Redis is dead, the tenant misses its
// values, and does not have those of before the move.
func TestAnUndoWithoutRedisSetsNothingBack(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	must(t, a.keep.Set(ctx, durable(1, "changed"), []byte("1"), 0))
	must(t, a.keep.Set(ctx, durable(1, "deleted"), []byte("1"), 0))
	toFrozen(t, a, b, there)
	toActive(t, a, b, there)
	must(t, b.keep.Set(ctx, durable(2, "changed"), []byte("2"), 0))
	must(t, b.keep.Delete(ctx, durable(2, "deleted")))
	_ = b.raw.ShutdownNoSave(ctx).Err() // the answer is the closed connection
	toFrozen(t, b, a, back)
	toActive(t, b, a, back)
	a.want(t, 3, "changed", "")
	a.want(t, 3, "deleted", "")
	if got := a.lost(t); got != "1 1" {
		t.Errorf("lost: got %s, want 1 1", got)
	}
}

// TestOnlyTheMovesSourceTellsItsKeys: before it is armed, nothing happens in Redis.
func TestOnlyTheMovesSourceTellsItsKeys(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	must(t, b.Client.Reserve(ctx, m)) // not armed: no rows either
	if _, err := b.Pull(ctx, m, a.url, false); !errors.Is(err, problem.Conflict) {
		t.Errorf("pull of a tenant that is not armed: got %v, want conflict", err)
	}
	if n := a.raw.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys at the source", n)
	}
}

// bareKeys names the limit's state as cells do.
type bareKeys struct{ *redis.Client }

func (c bareKeys) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.Client.EvalSha(ctx, sha, []string{strings.TrimPrefix(keys[0], "rate:")}, args...)
}

func (c bareKeys) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.Client.Eval(ctx, script, []string{strings.TrimPrefix(keys[0], "rate:")}, args...)
}

// TestKeysThatAreThereAreNotLate, however long the rows took; what is not there is.
func TestKeysThatAreThereAreNotLate(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for range 100 { // a choice of two would find the time over in half of them
		for _, d := range []time.Duration{-time.Hour, 0, time.Hour} {
			done := make(chan error, 2)
			done <- nil
			done <- broken
			if err := transfer.Arrived(done, d); err != nil {
				t.Fatalf("got %v, want the keys", err)
			}
			if err := transfer.Arrived(done, d); !errors.Is(err, broken) {
				t.Fatalf("got %v, want what broke them", err)
			}
		}
	}
	if err := transfer.Arrived(make(chan error), -time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the time to be over", err)
	}
}
