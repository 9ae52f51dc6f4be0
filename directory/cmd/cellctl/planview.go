package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// A step is one tenant's change of cell: planned or, where Move is set, recorded.
type step struct {
	Tenant   directory.TenantID    `json:"tenant"`
	Slug     string                `json:"slug"`
	From     directory.CellID      `json:"from"`
	To       directory.CellID      `json:"to"`
	Why      string                `json:"why,omitempty"`
	Forecast planner.Forecast      `json:"forecast"`
	Move     directory.MoveID      `json:"move,omitempty"`
	Phase    directory.Phase       `json:"phase,omitempty"`
	Pause    time.Duration         `json:"pause_ns,omitempty"`
	Error    string                `json:"error,omitempty"`
	AtLeast  bool                  `json:"at_least,omitempty"` // there may be more to copy than the forecast has
	tried    directory.RehearsalID // in a dry run
	settled  bool                  // nothing is left to wait for
	closed   bool                  // it watched, and its watch was asked to end
	kept     bool                  // it watches, and is not completed before somebody has looked
}

// A refusal is a tenant that should have changed its cell and does not.
type refusal struct {
	Tenant directory.TenantID `json:"tenant"`
	Slug   string             `json:"slug"`
	Reason planner.Reason     `json:"reason"` // or "directory" or "cells", whose own words Why then is
	Why    string             `json:"why"`
}

// instead is what may be done for a tenant that stays.
func (r refusal) instead(verb string) string {
	tenant := "cellctl tenant "
	switch r.Reason {
	case planner.Pinned:
		return tenant + "unpin " + r.Slug + ", or by name: " + tenant + "move " + r.Slug + " --to CELL"
	case planner.NotActive:
		return tenant + "resume " + r.Slug + " lets a suspended one move"
	case planner.Watched, planner.Moving, planner.Coming:
		return "cellctl move list --tenant " + r.Slug + " shows the move that it waits for"
	case planner.NoBudget:
		return tenant + "set " + r.Slug + " --pause-budget, or by name: " + tenant + "move " + r.Slug + " --to CELL"
	case planner.Silent:
		return "its cell has to be heard of first: cellctl cell list"
	case planner.NoCell, planner.Bound:
		if verb == "quarantine" {
			return "cellctl cell list shows the cells and their room; one that nobody needs otherwise is made one for it: cellctl cell quarantine NAME"
		}
		return "cellctl cell list shows the cells and their room; make one that may take it: cellctl cell add --help"
	}
	return "mend what WHY says of each, and plan again"
}

// A cellPlan is what a plan does to one cell.
type cellPlan struct {
	Cell     directory.CellID    `json:"cell"`
	State    directory.CellState `json:"state"`
	Healthy  bool                `json:"healthy"`
	Capacity int                 `json:"capacity"`
	Before   int                 `json:"tenants"`
	After    int                 `json:"tenants_after"`
}

// A forecast is what a plan is expected to cost, and what that is known from.
type forecast struct {
	planner.Forecast      // one after the other; the pause is the longest of one tenant
	Sized            int  `json:"sized"`              // tenants whose size is known, of those to be moved
	AtLeast          bool `json:"at_least,omitempty"` // of some, by a dry run, only a part is counted
	known
}

// sized is the step with what its copy costs, forecast by o, by what a rehearsal has measured.
func (s step) sized(r rehearsed, o planner.Options) step {
	if s.AtLeast = r.AtLeast || r.Unsized; r.Unsized {
		return s
	}
	bytes := r.Bytes
	more := o.Forecast(planner.Load{Bytes: bytes}).Duration - o.Forecast(planner.Load{Bytes: s.Forecast.Bytes}).Duration
	s.Forecast.Bytes, s.Forecast.Duration = bytes, s.Forecast.Duration+more
	return s
}

// measure sums up steps whose sizes are known now.
func (f *forecast) measure(steps []step) {
	f.Forecast, f.Sized, f.AtLeast = planner.Forecast{}, 0, false
	for _, s := range steps {
		f.Bytes += s.Forecast.Bytes
		f.Duration += s.Forecast.Duration
		f.Pause = max(f.Pause, s.Forecast.Pause)
		f.AtLeast = f.AtLeast || s.AtLeast
		if s.Forecast.Bytes > 0 {
			f.Sized++
		}
	}
}

// A plan is what a command that moves many tenants shows and carries out.
type plan struct {
	Verb     string     `json:"verb"`
	Subject  string     `json:"subject"`
	Tenants  int        `json:"tenants"` // of the whole fleet
	Moves    []step     `json:"moves"`
	UnderWay []step     `json:"under_way"` // of an earlier run; they count as done
	Refusals []refusal  `json:"refusals"`
	Cells    []cellPlan `json:"cells"`
	Share    float64    `json:"share"`
	Confirm  int        `json:"confirm,omitempty"` // the number to confirm, where one is needed
	Forecast forecast   `json:"forecast"`
	CarryOut bool       `json:"carried_out"` // the moves are asked for
}

// newPlan says what p, made from f, means for people. belongs picks the moves that
// have not ended and are the plan's.
func newPlan(verb, subject string, f fleet, p planner.Plan, belongs func(directory.Move) bool) plan {
	out := plan{
		Verb: verb, Subject: subject, Tenants: len(f.tenants), Share: p.Share,
		Moves: []step{}, UnderWay: []step{}, Refusals: []refusal{}, Cells: []cellPlan{},
	}
	if p.NeedsConfirmation {
		out.Confirm = len(p.Moves)
	}
	mine := map[directory.TenantID]bool{}
	for _, m := range f.open {
		if belongs(m) {
			mine[m.Tenant] = true
			out.UnderWay = append(out.UnderWay, step{Tenant: m.Tenant, Slug: f.slugs[m.Tenant], From: m.Source, To: m.Target, Move: m.ID, Phase: m.Phase})
		}
	}
	out.Forecast.Forecast = p.Total()
	out.Forecast.known = f.known()
	for _, m := range p.Moves {
		out.Moves = append(out.Moves, step{Tenant: m.Tenant, Slug: f.slugs[m.Tenant], From: m.From, To: m.To, Why: m.Why, Forecast: m.Forecast})
		if m.Forecast.Bytes > 0 {
			out.Forecast.Sized++
		}
	}
	for _, r := range p.Refusals {
		if r.Reason != planner.Moving || !mine[r.Tenant] {
			out.Refusals = append(out.Refusals, refusal{r.Tenant, f.slugs[r.Tenant], r.Reason, r.Why})
		}
	}
	out.Cells = cellPlans(f, p)
	return out
}

func cellPlans(f fleet, p planner.Plan) []cellPlan {
	all := []cellPlan{}
	for i, before := range p.Before { // both by cell, in one order
		at := slices.IndexFunc(f.cells, func(c directory.Cell) bool { return c.ID == before.Cell })
		c := f.cells[at]
		all = append(all, cellPlan{c.ID, c.State, c.Healthy, c.Capacity, before.Tenants, p.After[i].Tenants})
	}
	return all
}

var stepView = view[step]{
	kind: "Step",
	name: func(s step) string {
		if s.Move != "" {
			return "move/" + string(s.Move)
		}
		return "tenant/" + s.Slug
	},
	columns: []column[step]{
		{title: "tenant", text: func(s step, _ clock) string { return s.Slug }},
		{title: "from", text: func(s step, _ clock) string { return string(s.From) }},
		{title: "to", text: func(s step, _ clock) string { return string(s.To) }},
		{title: "why", text: func(s step, _ clock) string { return s.Why }},
	},
}

// askedView shows steps that are recorded.
var askedView = view[step]{
	kind: "Step", name: stepView.name,
	columns: append(slices.Clone(stepView.columns[:3]),
		column[step]{title: "move", text: func(s step, _ clock) string { return string(s.Move) }},
		column[step]{title: "phase", text: func(s step, _ clock) string { return string(s.Phase) }},
		column[step]{title: "pause", text: func(s step, _ clock) string { return pause(s.Pause) }},
		column[step]{title: "error", text: func(s step, _ clock) string { return oneLine(s.Error) }}),
}

var refusalView = view[refusal]{
	kind: "Refusal", name: func(r refusal) string { return "tenant/" + r.Slug },
	columns: []column[refusal]{
		{title: "stays", text: func(r refusal, _ clock) string { return r.Slug }},
		{title: "reason", text: func(r refusal, _ clock) string { return string(r.Reason) }},
		{title: "why", text: func(r refusal, _ clock) string { return oneLine(r.Why) }},
	},
}

var cellPlanView = view[cellPlan]{
	kind: "CellPlan", name: func(c cellPlan) string { return "cell/" + string(c.Cell) },
	columns: []column[cellPlan]{
		{title: "cell", text: func(c cellPlan, _ clock) string { return string(c.Cell) }},
		{title: "state", text: func(c cellPlan, _ clock) string { return string(c.State) }},
		{title: "healthy", text: func(c cellPlan, _ clock) string { return yesNo(c.Healthy) }},
		{title: "tenants", text: func(c cellPlan, _ clock) string { return strconv.Itoa(c.Before) }},
		{title: "after", text: func(c cellPlan, _ clock) string { return strconv.Itoa(c.After) }},
		{title: "capacity", text: func(c cellPlan, _ clock) string { return strconv.Itoa(c.Capacity) }},
		{title: "used after", text: func(c cellPlan, _ clock) string { return percent(float64(c.After) / float64(c.Capacity)) }},
	},
}

// showPlan prints a plan and the commands that make sense now.
func (a *app) showPlan(p plan, next ...string) error {
	next = a.there(next...)
	switch a.flags.output {
	case "json", "yaml":
		return a.document("Plan", p, map[string]any{"next_steps": next})
	case "name", "csv":
		if steps := slices.Concat(p.UnderWay, p.Moves); len(steps) > 0 || a.flags.output == "csv" {
			stepView.rows(a, steps)
		}
		return nil
	}
	p.tables(a)
	fmt.Fprintln(a.out, p.summary())
	for _, step := range next {
		a.note("next: %s", step)
	}
	return nil
}

// tables prints what a plan holds, each part after an empty line.
func (p plan) tables(a *app) {
	section := func(n int, rows func()) {
		if n > 0 {
			rows()
			fmt.Fprintln(a.out)
		}
	}
	section(len(p.Moves), func() { stepView.rows(a, p.Moves) })
	section(len(p.UnderWay), func() { askedView.rows(a, p.UnderWay) })
	section(len(p.Refusals), func() { refusalView.rows(a, p.Refusals) })
	section(len(p.Cells), func() { cellPlanView.rows(a, p.Cells) })
}

// summary says in one line what a plan comes to.
func (p plan) summary() string {
	text := fmt.Sprintf("%s %s: %s of %d tenants (%s)", p.Verb, p.Subject, count(len(p.Moves), "move"), p.Tenants, percent(p.Share))
	if len(p.UnderWay) > 0 {
		text += fmt.Sprintf(", %d under way already", len(p.UnderWay))
	}
	if len(p.Refusals) > 0 {
		text += fmt.Sprintf(", %d refused", len(p.Refusals))
	}
	if len(p.Moves) == 0 {
		return text
	}
	f := p.Forecast
	least := ""
	if f.AtLeast {
		least = "at least "
	}
	text += fmt.Sprintf("\nforecast: %s%s one after the other, %s, several go at once; ", least, f.Duration.Round(100*time.Millisecond), f.time())
	switch {
	case f.Sized == 0:
		text += "no tenant's size is known, so this is what moves cost besides copying"
	default:
		text += fmt.Sprintf("to copy: %s%s of the %d tenants whose size is known", least, size(f.Bytes), f.Sized)
	}
	return text + fmt.Sprintf("; pause %s, %s", pause(f.Pause), f.pause())
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
