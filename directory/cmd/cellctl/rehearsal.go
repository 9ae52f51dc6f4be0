package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
	"github.com/cellway/cellway/infra/problem"
)

// A rehearsed is what a mover reports of a move that is only tried; see mover.Rehearsed.
type rehearsed struct {
	Steps    []dryStep       `json:"steps"`
	Findings []finding       `json:"findings"`
	More     int             `json:"more_findings,omitempty"`
	Rows     int64           `json:"rows"`
	Bytes    int64           `json:"size_bytes"`
	AtLeast  bool            `json:"at_least,omitempty"`
	Unsized  bool            `json:"unsized,omitempty"`
	Whole    bool            `json:"whole"`
	Reaches  directory.Phase `json:"reaches"`
	Error    string          `json:"error,omitempty"`
}

type dryStep struct {
	Phase directory.Phase  `json:"phase"`
	Cell  directory.CellID `json:"cell,omitempty"`
	Step  string           `json:"step"`
	Does  string           `json:"does"`
	Asked bool             `json:"asked"`
}

type finding struct {
	Cell  directory.CellID `json:"cell"`
	Code  string           `json:"code"`
	Table string           `json:"table,omitempty"`
	Why   string           `json:"why"`
	Fix   string           `json:"fix"`
}

// verdict is the error with which the move itself would end, or what it would wait for.
func (r rehearsed) verdict() error {
	switch r.Reaches {
	case directory.Watching:
		return nil
	case directory.Aborted:
		e := problem.New(problem.Conflict, "the move would be aborted: %s", oneLine(r.Error))
		if r.More > 0 {
			return hinted{e, fmt.Sprintf("there are %d more findings: mend these first", r.More)}
		}
		return hinted{e, "mend it and try again; the tenant is where it was"}
	}
	return hinted{
		problem.New(problem.CellUnavailable, "the move would wait, %s: %s", r.Reaches, oneLine(r.Error)),
		"it would go on by itself once that is over",
	}
}

// whole is how many bytes are known to be copied.
func (r rehearsed) whole() int64 {
	if r.Whole {
		return r.Bytes
	}
	return 0
}

var dryStepView = view[dryStep]{
	kind: "Step", name: func(s dryStep) string { return "step/" + s.Step },
	columns: []column[dryStep]{
		{title: "step", text: func(s dryStep, _ clock) string { return s.Step }},
		{title: "cell", text: func(s dryStep, _ clock) string { return string(s.Cell) }},
		{title: "phase", text: func(s dryStep, _ clock) string { return string(s.Phase) }},
		{title: "asked", text: func(s dryStep, _ clock) string { return yesNo(s.Asked) }},
		{title: "does", text: func(s dryStep, _ clock) string { return oneLine(s.Does) }},
	},
}

var findingView = view[finding]{
	kind: "Finding", name: func(f finding) string { return "finding/" + f.Code },
	columns: []column[finding]{
		{title: "cell", text: func(f finding, _ clock) string { return string(f.Cell) }},
		{title: "finding", text: func(f finding, _ clock) string { return f.Code }},
		{title: "table", text: func(f finding, _ clock) string { return f.Table }},
		{title: "why", text: func(f finding, _ clock) string { return oneLine(f.Why) }},
		{title: "fix", text: func(f finding, _ clock) string { return oneLine(f.Fix) }},
	},
}

// A price is what a move is expected to cost.
type price struct {
	Forecast planner.Forecast `json:"forecast"`
	known
}

// noRehearsals is said of a directory of before.
const noRehearsals = "this directory has no mover look at what only the cells know"

// rehearse waits for a mover to try a move that is not recorded, and shows what it found. next
// is the command that makes it.
func (a *app) rehearse(ctx context.Context, d api, m directory.Move, next string) error {
	if m.Rehearsal == "" {
		a.note("nothing is recorded; %s", noRehearsals)
		return dryMoveView.one(a, m)
	}
	r, err := a.rehearsed(ctx, d, m.Rehearsal)
	if err != nil {
		return err
	}
	var cost any // a price, where there is one
	steps := []string{}
	if r.verdict() == nil {
		steps = a.there(next)
		if p, err := a.price(ctx, d, m, r.whole()); err != nil {
			a.note("what it would cost is not known: %v", err)
		} else {
			cost = p
		}
	}
	if dryMoveView.isDocument(a) {
		if err := a.document(dryMoveView.kind, m, r, cost, map[string]any{"next_steps": steps}); err != nil {
			return err
		}
		return r.verdict()
	}
	switch a.flags.output {
	case "name":
		dryMoveView.rows(a, []directory.Move{m})
		return r.verdict()
	case "csv": // one table: the steps are the answer
		dryStepView.rows(a, r.Steps)
		return r.verdict()
	}
	a.noColumns(dryMoveView.column, dryStepView.column, findingView.column)
	dryMoveView.rows(a, []directory.Move{m})
	fmt.Fprintln(a.out)
	dryStepView.rows(a, r.Steps)
	if len(r.Findings) > 0 {
		fmt.Fprintln(a.out)
		findingView.rows(a, r.Findings)
	}
	if p, ok := cost.(price); ok {
		fmt.Fprintf(a.out, "\n%s\n", r.summary(p))
	}
	a.note("nothing was recorded, and nothing has changed: this is how things are now")
	for _, step := range steps {
		a.note("next: %s", step)
	}
	return r.verdict()
}

// summary says what the move would cost.
func (r rehearsed) summary(cost price) string {
	least := ""
	if r.AtLeast || r.Unsized {
		least = "at least "
	}
	much := fmt.Sprintf("%s%d rows, %s", least, r.Rows, size(r.Bytes))
	if r.Unsized {
		much = "rows that take too long to count"
	}
	if !r.Whole {
		much, least = "what has changed since the switch, of "+much, ""
	}
	parts := []string{
		"to copy: " + much, fmt.Sprintf("forecast: %s%s, %s", least, cost.Forecast.Duration.Round(100*time.Millisecond), cost.time()),
		"pause " + pause(cost.Forecast.Pause) + ", " + cost.pause(),
	}
	return strings.Join(parts, "; ")
}

// rehearsed waits until a mover has reported of a rehearsal. Ctrl-C ends the waiting; the
// rehearsal ends by itself.
func (a *app) rehearsed(ctx context.Context, d api, id directory.RehearsalID) (rehearsed, error) {
	var out outage
	var found rehearsed
	began, said := a.now(), a.now()
	seen := began // when a mover had any rehearsal last, as far as is known
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		r, err := d.Rehearsal(ctx, id)
		now := a.now()
		switch {
		case problem.KindOf(err) == problem.NotFound:
			e := problem.New(problem.Timeout, "the directory does not know of the dry run any more")
			return found, hinted{e, "it keeps one for an hour; while its processes are replaced, one of the release before may have answered: try again"}
		case err != nil:
			if err := out.bear(ctx, a, err); err != nil {
				return found, err
			}
		case !r.Ended.IsZero():
			if err := json.Unmarshal(r.Report, &found); err != nil {
				return found, fmt.Errorf("read what the mover found: %w", err)
			}
			return found, nil
		case r.Busy == 0 && now.Sub(seen) > a.flags.timeout:
			e := problem.New(problem.Timeout, "no mover has taken the dry run within %s", a.flags.timeout)
			if r.Lease > 0 {
				e = problem.New(problem.Timeout, "the mover that had the dry run is gone, and none has taken it within %s", a.flags.timeout)
			}
			return found, hinted{e, "the directory has nothing against the move; is a mover of this release running?"}
		case now.Sub(began) > directory.RehearsalTTL:
			e := problem.New(problem.Timeout, "no mover has ended the dry run within %s", directory.RehearsalTTL)
			return found, hinted{e, "the movers' logs may tell why; the directory has nothing against the move"}
		default:
			out = outage{}
			if r.Busy > 0 {
				seen = now
			}
			if now.Sub(said) >= noteEvery {
				said = now
				a.note("%s", waitsFor(r))
			}
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-tick.C:
		}
	}
}

// waitsFor says what a rehearsal waits for.
func waitsFor(r directory.Rehearsal) string {
	switch {
	case r.Busy == 0:
		return "no mover has taken the dry run yet"
	case r.Holder == "":
		return "the movers are busy with other dry runs"
	}
	return r.Holder + " is asking the cells"
}

// price is what the move of a tenant with so many bytes is expected to cost, by what was
// measured of late.
func (a *app) price(ctx context.Context, d api, m directory.Move, bytes int64) (price, error) {
	recent, err := d.ListMoves(ctx, 0, true, "", pageSize)
	if err != nil {
		return price{}, err
	}
	f := fleet{recent: recent, times: readTimes(ctx, d, recent)}
	load := planner.Load{Bytes: bytes}
	for _, l := range readLoads(ctx, d, []directory.Cell{{ID: m.Source}}, a.now())[m.Source] {
		if l.Tenant == m.Tenant {
			load.Requests = l.Requests
		}
	}
	return price{f.expects(planner.Default()).Forecast(load), f.known()}, nil
}
