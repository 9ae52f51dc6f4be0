package worker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

// Events that take long have transactions of their own: a freeze of the tenant waits for
// the one that is under way, and their number does not make that longer.
func TestSlowEventsShareNoTransaction(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	var transactions, events atomic.Int64
	w := st.worker(t, quick(), Consumer{Name: "log", Handle: func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
		events.Add(1)
		if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, (2 * maxTime).Seconds()); err != nil {
			return err
		}
		return record("log")(ctx, tx, e)
	}})
	w.hook = func(step string) error {
		if step == "handled" {
			transactions.Add(1)
		}
		return nil
	}
	st.write(t, 1, 5, created)
	start(t, st.relay(), w)
	st.waitEffects(t, 1, 5, "log")
	if transactions.Load() != 5 || events.Load() != 5 {
		t.Errorf("%d events in %d transactions, want one in each", events.Load(), transactions.Load())
	}
}

// A consumer that meets a fault which is not its own has no attempts and no dead
// letters: that it stands shows in how far it is behind, and nobody else is.
func TestAConsumerThatStandsShows(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	called := make(chan struct{}, 1)
	var healed atomic.Bool
	stands := Consumer{Name: "stands", Handle: func(context.Context, *store.Tx, outbox.Event) error {
		if healed.Load() {
			return nil
		}
		select {
		case called <- struct{}{}:
		default:
		}
		return problem.New(problem.Unavailable, "what it asks does not answer")
	}}
	w := st.worker(t, quick(), stands, logger("log"))
	st.write(t, 1, 3, created)
	start(t, st.relay(), w)
	<-called
	st.waitEffects(t, 1, 3, "log")
	lag := func(consumer string) float64 {
		t.Helper()
		if err := w.observeOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		return testutil.ToFloat64(w.metrics.lag.WithLabelValues(consumer))
	}
	if first, second := lag("stands"), lag("stands"); first <= 0 || second <= first {
		t.Errorf("the lag is %v, then %v; want it to grow", first, second)
	}
	if got := lag("log"); got != 0 {
		t.Errorf("the lag of who has done all is %v", got)
	}
	if failed := testutil.ToFloat64(w.metrics.failures.WithLabelValues("stands")); failed != 0 {
		t.Errorf("%v attempts are counted", failed)
	}
	healed.Store(true)
	eventually(t, "it is not behind any more", func() bool { return lag("stands") == 0 })
}
