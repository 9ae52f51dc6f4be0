package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// How long things may take on a machine that does other work too, once the faults
// have stopped: a move to end (I13), and what was written to be consumed.
const (
	settleBound  = 2 * time.Minute
	workOn       = 15 * time.Second // so long the tenants go on while moves end: a busy machine may never catch up with them
	consumeBound = 90 * time.Second
	roundTimeout = 10 * time.Minute
)

// An errand is one tenant's move of a round.
type errand struct {
	Errand
	tenant *loadtest.Tenant
	verb   string           // move, undo or complete
	before directory.MoveID // the newest move when the round began
	watch  directory.MoveID // the move whose way back is open then
	begun  chan struct{}    // closed when it was asked for
}

// round plays one round. The error says that it could not be played; what broke
// is in the report.
func (r *run) round(whole context.Context, n int, plan Round) error {
	ctx, cancel := context.WithTimeout(whole, roundTimeout)
	defer cancel()
	began := time.Now()
	traffic := r.startTraffic(ctx)
	errands, err := r.errands(ctx, plan)
	if err != nil {
		return err
	}
	r.begin(n)
	if err := r.strikeAll(ctx, plan.Faults, errands); err != nil {
		return err
	}
	r.proxies.disarm()
	if err := r.heal(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.healed = time.Now()
	r.mu.Unlock()
	r.settle(ctx, errands, workOn)
	if err := traffic(); err != nil && whole.Err() == nil { // else who runs us has broken it off
		r.violate("I2, I4", "%v", err)
	}
	if left := r.settle(ctx, errands, settleBound); left != "" && whole.Err() == nil {
		r.violate("I13", "%s", left)
	}
	if err := r.check(ctx, began); err != nil {
		return err
	}
	r.say("round %d: %s: %s in %.1f s", n, list(plan.Faults), r.outcome(ctx, errands), time.Since(began).Seconds())
	return ctx.Err()
}

func list(faults []Fault) string {
	var all []string
	for _, f := range faults {
		all = append(all, f.String())
	}
	return strings.Join(all, ", ")
}

// startTraffic sets the tenants to work. The function returned lets them finish
// what they have begun, until it is acknowledged, and says what went wrong beyond
// repair: for one tenant, and the others go on, for to break them off would leave
// writes of which nobody knows whether they were done.
func (r *run) startTraffic(ctx context.Context) func() error {
	stop := make(chan struct{})
	var g errgroup.Group
	for _, t := range r.movers {
		g.Go(func() error { return t.Work(ctx, stop) })
		g.Go(func() error { return r.writeKeys(ctx, r.kept[t.ID], stop) })
	}
	return func() error {
		close(stop)
		return g.Wait()
	}
}

// errands says what each tenant's move of this round is.
func (r *run) errands(ctx context.Context, plan Round) ([]*errand, error) {
	var all []*errand
	for i, t := range r.movers {
		m, err := r.newest(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		watching, err := r.watching(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		e := &errand{Errand: plan.Errands[i], tenant: t, verb: "move", before: m.ID, watch: watching.ID, begun: make(chan struct{})}
		switch {
		case watching.ID != "" && e.Undo:
			e.verb = "undo"
		case watching.ID != "":
			e.verb = "complete"
		}
		all = append(all, e)
	}
	return all, nil
}

// strikeAll lets every errand begin and every fault strike, and returns when what
// was killed runs again.
func (r *run) strikeAll(ctx context.Context, faults []Fault, errands []*errand) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range errands {
		g.Go(func() error { return r.ask(ctx, e) })
	}
	for i, f := range faults {
		g.Go(func() error { return r.strike(ctx, i, f, errands[f.Tenant]) })
	}
	return g.Wait()
}

// ask asks the directory for the errand, until it is recorded: an answer may be
// lost and the directory dead meanwhile.
func (r *run) ask(ctx context.Context, e *errand) error {
	defer close(e.begun)
	var last error
	err := loadtest.Until(ctx, "a "+e.verb+" to be recorded", 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		if r.recorded(ctx, e) {
			return true, nil
		}
		last = r.askOnce(ctx, e)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	if e.Cancel == "" || e.verb == "complete" {
		return nil
	}
	m := r.at(ctx, e, e.Cancel)
	wish := map[string]directory.Wish{"wish": directory.Cancel}
	// Too late is an answer too, and a directory that is dead just now keeps the move.
	_ = r.console.Call(ctx, http.MethodPost, "/v1/moves/"+string(m.ID)+"/wish", wish, nil)
	return nil
}

// recorded reports whether the directory has the errand already.
func (r *run) recorded(ctx context.Context, e *errand) bool {
	if e.verb == "complete" {
		watching, err := r.watching(ctx, e.tenant.ID)
		return err == nil && (watching.ID == "" || watching.Wish == directory.Complete)
	}
	m, err := r.newest(ctx, e.tenant.ID)
	return err == nil && m.ID != e.before
}

func (r *run) askOnce(ctx context.Context, e *errand) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	watching, err := r.watching(ctx, e.tenant.ID)
	if err != nil {
		return err
	}
	if e.verb == "complete" {
		return r.console.Wish(ctx, watching.ID, directory.Complete)
	}
	want := directory.NewMove{Tenant: e.tenant.ID, Undoes: watching.ID, Target: watching.Source}
	if e.verb == "move" {
		owner, err := r.owner(ctx, e.tenant.ID)
		if err != nil {
			return err
		}
		want.Target = r.other(owner.Cell, e.Undo)
	}
	return r.console.Call(ctx, http.MethodPost, "/v1/moves", want, nil)
}

// other is a cell beside this one.
func (r *run) other(cell directory.CellID, second bool) directory.CellID {
	n := 1
	if second {
		n = len(r.state.Cells) - 1
	}
	for i := range r.state.Cells {
		if r.cellAt(i) == cell {
			return r.cellAt(i + n)
		}
	}
	return r.cellAt(0)
}

// settle waits, so long at most, until no move is under way, and says which one is.
func (r *run) settle(ctx context.Context, errands []*errand, most time.Duration) string {
	waiting, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for _, e := range errands {
		err := loadtest.Until(waiting, "the moves of "+e.tenant.Slug+" to end", 10*time.Millisecond, func(ctx context.Context) (bool, error) {
			open, err := r.underWay(ctx, e.tenant.ID)
			return err == nil && !open, nil
		})
		if err != nil {
			m, _ := r.newest(ctx, e.tenant.ID) // for the message only
			return fmt.Sprintf("%v: move %s is %s (%s)", err, m.ID, m.Phase, m.Error)
		}
	}
	return ""
}

// outcome counts how the errands ended and tells it in a line.
func (r *run) outcome(ctx context.Context, errands []*errand) string {
	var all []string
	for _, e := range errands {
		m, err := r.newest(ctx, e.tenant.ID)
		if e.verb == "complete" {
			m, err = r.move(ctx, namedMove, e.tenant.ID, e.watch)
		}
		if err != nil {
			continue // the record is checked elsewhere
		}
		ended := fmt.Sprintf("%s %s", e.verb, m.Phase)
		r.mu.Lock()
		r.report.Moves[ended]++
		r.mu.Unlock()
		all = append(all, ended)
	}
	return strings.Join(all, ", ")
}
