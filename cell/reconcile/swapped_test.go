package reconcile_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/reconcile"
	"github.com/cellway/cellway/directory"
)

// A swapping is a directory while whose first answer about a tenant something happens.
type swapping struct {
	*world
	once sync.Once
	do   func()
}

func (s *swapping) Tenant(ctx context.Context, ref string) (directory.Tenant, error) {
	s.once.Do(s.do)
	return s.world.Tenant(ctx, ref)
}

// TestTheServerThatWasSurveyedIsWritten: while a database is reconciled its server is replaced
// by an older copy. What was found in the first says nothing about the second.
func TestTheServerThatWasSurveyedIsWritten(t *testing.T) {
	t.Parallel()
	w, s, c1, c2 := stage(t)
	left := w.tenant(t, "c1")
	c1.use(t, left, 1, 1)
	older := s.copy(t, false)
	m := w.move(t, c1, c2, directory.NewMove{Tenant: left}, directory.Watching)
	newer := s.copy(t, false)
	_, err := w.AskMove(t.Context(), m.ID, directory.Complete)
	must(t, err)
	m, err = w.LeaseMove(t.Context(), m.ID, "mover", 100*time.Second)
	must(t, err)
	m.Phase = directory.Completed
	must(t, w.Advance(t.Context(), m, directory.Watching))
	other := w.tenant(t, "c1") // the newer copy has it, and it is elsewhere: the directory is asked for it by name
	c1.use(t, other, 1, 1)
	w.move(t, c1, c2, directory.NewMove{Tenant: other}, directory.Watching)
	told(t, w, c1)
	c1.close()
	s.kill()

	newer.start(t)
	c1 = w.open(t, "c1", newer.URL("cell"))
	older.Port = newer.Port
	d := &swapping{world: w, do: func() {
		newer.kill()
		older.start(t)
		until(t, "the pool has a connection to the other server", func() bool {
			_, err := c1.app.DB().Exec(t.Context(), `SELECT 1`)
			return err == nil
		})
	}}
	c1.agent = reconcile.New(reconcile.Options{Store: c1.app, Directory: d, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registry: prometheus.NewRegistry()})
	c1.watch()
	c1.serves(t)
	c1.wantFence(t, left, fence.Moved, 2)
	if err := c1.write(t.Context(), left, 1, 77); err == nil {
		t.Error("it takes a write of who has left")
	}
}
