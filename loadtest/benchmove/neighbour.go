package benchmove

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/figure"
)

// bigRows is how many rows the neighbour commits at once.
const (
	bigRows      = 1_000_000
	bigRowsQuick = 50_000
)

func neighbourFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "neighbour", Title: "the pause with a neighbour's million-row commit in the window, against one without",
			How: "as for the pause; each move stops when it is caught up. Then, in turns, it is told to switch, or a neighbour in the source cell that " +
				"has inserted 1,000,000 rows in one transaction under its own fence commits at the same moment that the move is told to switch. " +
				"Each round makes two moves of each kind and takes their mean; the ratio is that of the round.",
			Values: []figure.Value{
				figure.Describe("ratio of pauses", "", "<= 3"), figure.Describe("pause, idle neighbour", "ms", ""),
				figure.Describe("pause, neighbour commits", "ms", ""), figure.Describe("the neighbour's commit", "ms", ""),
				figure.Describe("client-visible errors", "", "= 0"), figure.Describe("attempts aborted by a bound, repeated", "", ""),
			},
		},
		run: neighbourRun,
	}
}

// samplesPerRound is how many pauses of each kind make a round.
const samplesPerRound = 2

func neighbourRun(ctx context.Context, l *lab, m *measure) error {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	rows, samples := bigRows, samplesPerRound
	if l.o.Quick {
		rows, samples = bigRowsQuick, 1
		m.Note("--quick: the neighbour commits %d rows", rows)
	}
	neighbour, err := w.tenant(ctx, l.slug("neighbour"), w.cell(0))
	if err != nil {
		return err
	}
	faults := 0
	for round := range l.o.Rounds {
		t, err := w.tenant(ctx, l.slug("beside"), w.cell(0))
		if err != nil {
			return err
		}
		load := write(ctx, l.o.Rate, t)
		var idle, busy []moved
		for i := range samples {
			a, err := w.alone(ctx, t.ID)
			if err != nil {
				return err
			}
			var commit time.Duration
			b, err := w.besides(ctx, t.ID, neighbour.ID, fmt.Sprintf("big-%d-%d-", round, i), rows, &commit)
			if err != nil {
				return err
			}
			idle, busy = append(idle, a), append(busy, b)
			m.Add("the neighbour's commit", ms(commit))
		}
		load.stop()
		faults += len(load.faults)
		if err := w.compare(ctx, m, load, idle, busy); err != nil {
			return err
		}
		l.say("neighbour: round %d of %d", round+1, l.o.Rounds)
	}
	m.Add("client-visible errors", float64(faults))
	return nil
}

// compare adds a round's pauses.
func (w *world) compare(ctx context.Context, m *measure, load *writer, idle, busy []moved) error {
	owner, err := w.at(w.cell(0)) // each of the moves was undone
	if err != nil {
		return err
	}
	h, err := readHistory(ctx, owner, load.tenants[0].ID)
	if err != nil {
		return err
	}
	aborted := 0
	mean := func(moves []moved) (float64, error) {
		sum := 0.0
		for _, mv := range moves {
			d, ok := load.pause(h, mv.Base+1)
			if !ok {
				return 0, fmt.Errorf("move %s: no write at its epoch or before", mv.ID)
			}
			sum += ms(d)
			aborted += mv.aborted
		}
		return sum / float64(len(moves)), nil
	}
	a, err := mean(idle)
	if err != nil {
		return err
	}
	b, err := mean(busy)
	if err != nil {
		return err
	}
	m.Add("pause, idle neighbour", a)
	m.Add("pause, neighbour commits", b)
	m.Add("ratio of pauses", b/a)
	m.Add("attempts aborted by a bound, repeated", float64(aborted))
	return nil
}

// switched moves a tenant from the first cell to the second, stops when it is
// caught up, calls meanwhile and tells it to switch at the same moment; then it
// brings the tenant back, so that all is as before.
func (w *world) switched(ctx context.Context, tenant directory.TenantID, meanwhile func(ctx context.Context) error) (moved, error) {
	m, err := w.begin(ctx, directory.NewMove{Tenant: tenant, Target: w.cell(1), StopAt: directory.CaughtUp, Attempts: 1})
	if err != nil {
		return moved{}, err
	}
	if err := w.await(ctx, m.ID, directory.CaughtUp); err != nil {
		return moved{}, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return meanwhile(gctx) })
	g.Go(func() error { return w.wish(gctx, m.ID, directory.Switch, "") })
	if err := g.Wait(); err != nil {
		return moved{}, err
	}
	out, err := w.finish(ctx, m)
	if err != nil {
		return out, err
	}
	back, err := w.move(ctx, directory.NewMove{Tenant: tenant, Target: w.cell(0), Undoes: out.ID})
	if err != nil {
		return out, err
	}
	return out, w.complete(ctx, back.ID)
}

// alone is switched with nothing meanwhile.
func (w *world) alone(ctx context.Context, tenant directory.TenantID) (moved, error) {
	return again(func(int) (moved, error) {
		return w.switched(ctx, tenant, func(context.Context) error { return nil })
	})
}

// besides is switched with a neighbour that commits many rows at the moment of
// the switch. Where a bound aborts the move, both begin again.
func (w *world) besides(ctx context.Context, tenant, neighbour directory.TenantID, name string, rows int, took *time.Duration) (moved, error) {
	return again(func(aborted int) (out moved, err error) {
		err = w.commitBig(ctx, neighbour, fmt.Sprintf("%s%d-", name, aborted), rows, func(commit func(ctx context.Context) error) (err error) {
			out, err = w.switched(ctx, tenant, func(ctx context.Context) error {
				began := time.Now()
				defer func() { *took = time.Since(began) }()
				return commit(ctx)
			})
			return err
		})
		return out, err
	})
}

// commitBig inserts rows in the neighbour's name, in one transaction under its
// fence, and lets f commit it.
func (w *world) commitBig(ctx context.Context, tenant directory.TenantID, name string, rows int, f func(commit func(ctx context.Context) error) error) error {
	return connected(ctx, w.state.Cells[0].AppDatabaseURL, func(conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // committed, or of no use
		if _, err := tx.Exec(ctx, `SELECT cell.enter($1, 1)`, tenant); err != nil {
			return fmt.Errorf("enter the neighbour: %w", err)
		}
		const insert = `INSERT INTO projects.projects (tenant_id, id, name) SELECT $1, $2::text || g, 'big' FROM generate_series(1, $3::int) g`
		if _, err := tx.Exec(ctx, insert, tenant, name, rows); err != nil {
			return fmt.Errorf("insert the neighbour's rows: %w", err)
		}
		return f(tx.Commit)
	})
}
