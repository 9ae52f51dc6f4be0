package benchmove

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

const (
	settle         = time.Second      // for connections, and for writes before and after
	before         = 10 * time.Second // how long the neighbours are looked at before the drain
	crowdRate      = 100              // writes per second of all tenants that move
	neighbourRate  = 100              // and of all their new neighbours
	neighbours     = 4
	rowBytes       = 1000
	tinyRows       = 10
	makers         = 8               // tenants made side by side
	drainTimeout   = 5 * time.Second // for each tenant; half an hour at least
	drainLookEvery = 200 * time.Millisecond
)

func drainFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "drain", Title: "moving every tenant off a cell",
			How: "as many tenants as --tenants says (200 unless it does) of 1 MB each, of which 100 writes a second are asked in turn, are moved to the other " +
				"cell: all moves are made at once and the mover, with its default settings, makes four of them side by side. The time runs from making " +
				"the first move to the last one's watch. Neighbours are tenants of the target cell that write 100 times a second; their p99 is that " +
				"of the drain against that of the 10 s before, when the others wrote too. Tiny tenants, half as many, have 10 rows and no clients. One round.",
			Values: []figure.Value{
				figure.Describe("tenants", "", ""), figure.Describe("time", "s", ""), figure.Describe("moves", "1/min", ""),
				figure.Describe("data", "MB/s", ""), figure.Describe("failed requests", "", "= 0"),
				figure.Describe("neighbours' p99 before", "ms", ""), figure.Describe("neighbours' p99 during", "ms", ""),
				figure.Describe("neighbours' p99, ratio", "", "<= 1.5"),
				figure.Describe("moved tenants' longest write", "ms", ""), figure.Describe("moves that a bound aborted", "", ""),
				figure.Describe("tiny tenants' moves", "1/min", ">= 200"),
			},
		},
		run: drainRun,
	}
}

func drainRun(ctx context.Context, l *lab, m *measure) error {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	if err := w.drainUnderLoad(ctx, m); err != nil {
		return err
	}
	tiny, err := w.crowd(ctx, "tiny", max(1, l.o.Tenants/2), tinyRows)
	if err != nil {
		return err
	}
	took, _, err := w.moveAll(ctx, tiny)
	m.Add("tiny tenants' moves", float64(len(tiny))/took.Minutes())
	return err
}

func (w *world) drainUnderLoad(ctx context.Context, m *measure) error {
	o := w.lab.o
	crowd, err := w.crowd(ctx, "drained", o.Tenants, max(1, o.Bytes/rowBytes))
	if err != nil {
		return err
	}
	var beside []*loadtest.Tenant
	for range neighbours {
		t, err := w.tenant(ctx, w.lab.slug("resident"), w.cell(1))
		if err != nil {
			return err
		}
		beside = append(beside, t)
	}
	w.lab.say("drain: %d tenants of %d bytes are there", len(crowd), o.Bytes)
	moving := write(ctx, crowdRate, crowd...)
	warm := write(ctx, neighbourRate, beside...)
	loadtest.Pause(ctx, settle)
	warm.stop()
	calm := write(ctx, neighbourRate, beside...)
	loadtest.Pause(ctx, before)
	calm.stop()
	during := write(ctx, neighbourRate, beside...)
	took, aborted, err := w.moveAll(ctx, crowd)
	during.stop()
	moving.stop()
	if err != nil {
		return err
	}
	faults := append(append(moving.faults, calm.faults...), during.faults...)
	for _, f := range faults[:min(3, len(faults))] {
		m.Note("a client saw: %s", f)
	}
	was, is := loadtest.Percentiles(calm.took()), loadtest.Percentiles(during.took())
	m.Add("tenants", float64(len(crowd)))
	m.Add("time", took.Seconds())
	m.Add("moves", float64(len(crowd))/took.Minutes())
	m.Add("data", float64(len(crowd))*float64(o.Bytes)/1e6/took.Seconds())
	m.Add("failed requests", float64(len(faults)))
	m.Add("neighbours' p99 before", ms(was.P99))
	m.Add("neighbours' p99 during", ms(is.P99))
	m.Add("neighbours' p99, ratio", float64(is.P99)/float64(was.P99))
	m.Add("moved tenants' longest write", ms(loadtest.Percentiles(moving.took()).Max))
	m.Add("moves that a bound aborted", float64(aborted))
	return nil
}

// crowd makes n tenants in the first cell, each with rows of about rowBytes.
func (w *world) crowd(ctx context.Context, name string, n, rows int) ([]*loadtest.Tenant, error) {
	all, slugs := make([]*loadtest.Tenant, n), make([]string, n)
	for i := range slugs {
		slugs[i] = w.lab.slug(name)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(makers)
	for i, slug := range slugs {
		g.Go(func() error {
			t, err := w.tenant(ctx, slug, w.cell(0))
			if err != nil {
				return err
			}
			all[i] = t
			return seed(ctx, w.state.Cells[0].DatabaseURL, t.ID, rows, rowBytes)
		})
	}
	return all, g.Wait()
}

// moveAll moves tenants from the first cell to the second and waits until each
// has arrived. It returns the time, and how many moves a bound aborted.
func (w *world) moveAll(ctx context.Context, tenants []*loadtest.Tenant) (time.Duration, int, error) {
	ctx, cancel := context.WithTimeout(ctx, max(30*time.Minute, time.Duration(len(tenants))*drainTimeout))
	defer cancel()
	began := time.Now()
	moving := map[directory.TenantID]directory.MoveID{}
	for _, t := range tenants {
		m, err := w.begin(ctx, directory.NewMove{Tenant: t.ID, Target: w.cell(1)})
		if err != nil {
			return 0, 0, err
		}
		moving[t.ID] = m.ID
	}
	aborted := 0
	err := loadtest.Until(ctx, "all tenants to have moved", drainLookEvery, func(ctx context.Context) (bool, error) {
		var list struct{ Items []directory.Move }
		if err := w.console.Call(ctx, http.MethodGet, "/v1/moves?ended=false&limit=1000", nil, &list); err != nil {
			return false, err
		}
		for _, m := range list.Items {
			if moving[m.Tenant] != "" && m.Phase == directory.Watching {
				aborted += m.Attempt - 1
				delete(moving, m.Tenant)
			}
		}
		return len(moving) == 0, w.ended(ctx, moving, len(list.Items))
	})
	took := time.Since(began)
	if err != nil {
		return took, aborted, fmt.Errorf("%w (%d have not)", err, len(moving))
	}
	return took, aborted, nil
}

// ended finds a move that ended before its watch and that nothing follows: it
// would be waited for in vain.
func (w *world) ended(ctx context.Context, moving map[directory.TenantID]directory.MoveID, open int) error {
	if open >= len(moving) && len(moving) > makers {
		return nil // cheap enough to look at each only towards the end
	}
	for t, id := range moving {
		m, err := w.console.Move(ctx, id)
		switch {
		case err != nil:
			return err
		case m.RetriedBy != "":
			moving[t] = m.RetriedBy
		case m.Phase.Ended():
			return fmt.Errorf("move %s is %s: %s", id, m.Phase, m.Error)
		}
	}
	return nil
}
