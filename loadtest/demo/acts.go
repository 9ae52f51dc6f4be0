package demo

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// A blow is when the killed cell died and came back.
type blow struct {
	victims    []string // processes
	died, back time.Time
	others     int // requests of other cells' tenants that were answered meanwhile
}

// settle is how long after a cell is ready again its tenants' requests may still
// fail: those that were sent before, and those that meet a connection that a
// router believed alive.
const settle = time.Second

// covers reports whether a fault belongs to the outage.
func (b blow) covers(a loadtest.Attempt) bool {
	sent := a.At.Add(-a.Took)
	return a.At.After(b.died) && sent.Before(b.back.Add(settle))
}

// killCell kills the API of one cell and the Postgres below it while traffic
// flows, leaves them dead for a while, and starts them again.
func (r *run) killCell(ctx context.Context) error {
	if !loadtest.Pause(ctx, calm) {
		return context.Cause(ctx)
	}
	r.killed = directory.CellID(r.stack.State().Cells[1].ID)
	r.blow.victims = []string{string(r.killed), string(r.killed) + "-postgres"}
	before := r.answeredElsewhere()
	r.blow.died = time.Now()
	for _, name := range r.blow.victims {
		if err := r.stack.Kill(name); err != nil {
			return err
		}
	}
	r.say("killed %v with -9; %d tenants elsewhere go on", r.blow.victims, len(r.tenants)-r.placed(r.killed))
	if !loadtest.Pause(ctx, down) {
		return context.Cause(ctx)
	}
	for _, name := range []string{r.blow.victims[1], r.blow.victims[0]} { // the server before its client
		if err := r.stack.StartProcess(ctx, name); err != nil {
			return err
		}
	}
	r.blow.back = time.Now()
	r.blow.others = r.answeredElsewhere() - before
	answered := r.rec.Answered(r.killed)
	err := loadtest.Until(ctx, fmt.Sprintf("%s to serve again", r.killed), 10*time.Millisecond, func(context.Context) (bool, error) {
		return r.rec.Answered(r.killed) > answered, nil
	})
	if err != nil {
		return err
	}
	if !loadtest.Pause(ctx, calm) {
		return context.Cause(ctx)
	}
	return nil
}

func (r *run) answeredElsewhere() int {
	n := 0
	for _, c := range r.rec.Cells() {
		if c.Cell != r.killed {
			n += c.Requests - c.Errors
		}
	}
	return n
}

// placed is how many tenants a cell owns.
func (r *run) placed(cell directory.CellID) int {
	n := 0
	for _, t := range r.tenants {
		if t.Cell() == cell {
			n++
		}
	}
	return n
}

// addCell starts one more cell and signs up tenants, which must land there: it is the
// emptiest, for as many as each of the others has. The routers must be the processes
// that they were.
func (r *run) addCell(ctx, work context.Context) error {
	before := pids(r.stack)
	cell, err := r.stack.AddCell(ctx)
	if err != nil {
		return err
	}
	r.added = directory.CellID(cell.ID)
	due := newcomers
	for _, c := range r.stack.State().Cells {
		if id := directory.CellID(c.ID); id != r.added {
			due = min(due, r.placed(id))
		}
	}
	if err := r.signUp(ctx, work, "newcomer", newcomers); err != nil {
		return err
	}
	if !loadtest.Pause(ctx, calm) {
		return context.Cause(ctx)
	}
	same := true
	for _, router := range r.stack.State().Routers {
		same = same && before[router.ID] == pids(r.stack)[router.ID]
	}
	landed := r.placed(r.added)
	r.report.promise("a cell is added without touching a router", same && landed >= due,
		"%d of %d new tenants landed on %s; routers are the same processes: %v", landed, newcomers, r.added, same)
	return nil
}

func pids(s *stack.Stack) map[string]int {
	out := map[string]int{}
	for _, p := range s.State().Processes {
		out[p.Name] = p.PID
	}
	return out
}

// measurePropagation changes the route of a tenant that does nothing else, while
// the others work.
func (r *run) measurePropagation(ctx context.Context) error {
	t, err := loadtest.SignUp(ctx, r.ep, r.rec, "canary", loadtest.Plan{Seed: r.o.Seed})
	if err != nil {
		return err
	}
	took, err := loadtest.Propagation(ctx, r.console, t, r.o.Changes)
	r.report.Propagation = loadtest.Percentiles(took)
	return err
}

// overhead reads what the routers counted since they started.
func (r *run) overhead(ctx context.Context) (Overhead, error) {
	var sum loadtest.Histogram
	for _, router := range r.stack.State().Routers {
		m, err := loadtest.Scrape(ctx, router.Admin)
		if err != nil {
			return Overhead{}, err
		}
		sum = sum.Plus(m.Histogram("router_overhead_seconds"))
	}
	if sum.Count == 0 {
		return Overhead{}, fmt.Errorf("the routers have no router_overhead_seconds")
	}
	return Overhead{N: sum.Count, P50: millis(sum.Quantile(0.50)), P99: millis(sum.Quantile(0.99))}, nil
}

func millis(seconds float64) loadtest.Millis {
	return loadtest.Millis(math.Round(seconds * float64(time.Second)))
}
