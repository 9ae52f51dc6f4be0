package demo

import (
	"strings"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// propagationGoal is how long a route change should take to all routers, p99, on
// a machine that does nothing else. That is for the bench to hold; the demo holds
// that every change arrives, on whatever machine.
const propagationGoal = 250 * time.Millisecond

// judge turns what was measured into promises.
func (r *run) judge() {
	r.judgeCells()
	r.judgeMoves()
	w, e := r.report.Writes, r.report.Events
	r.report.promise("every acknowledged write is there once", w.OK() && w.Acknowledged > 0,
		"%d acknowledged, %d rows found%s", w.Acknowledged, w.Rows, named(w.Named))
	r.report.promise("every event is consumed once, in order per tenant", e.OK() && e.Written > 0,
		"%d written, %d consumed%s", e.Written, e.Consumed, named(e.Named))
	p := r.report.Propagation
	r.report.promise("a route change reaches every router", p.N == r.o.Changes,
		"%d of %d changes arrived; p99 %s, the goal of an idle machine is %s", p.N, r.o.Changes, p.P99, propagationGoal)
}

// judgeCells fills in the cells' rows and holds that the blow hit one cell only.
func (r *run) judgeCells() {
	healthy, outside, first := 0, 0, ""
	for _, c := range r.rec.Cells() {
		row := Cell{CellReport: c, Fate: "untouched", Tenants: r.placed(c.Cell)}
		for _, f := range r.rec.Faults(c.Cell) {
			if c.Cell != r.killed || !r.blow.covers(f) {
				row.Outside++
				first = string(f.Cell) + ": " + f.Fault
			}
		}
		switch c.Cell {
		case r.killed:
			row.Fate, outside = "killed and restarted", row.Outside
			r.report.Outage = Outage{
				Cell: c.Cell, Killed: r.blow.victims, At: loadtest.Millis(r.blow.died.Sub(r.began)),
				Down: loadtest.Millis(r.blow.back.Sub(r.blow.died)), Refused: c.Errors, Others: r.blow.others,
			}
		case r.added:
			row.Fate = "added"
			healthy += row.Outside
		default:
			healthy += row.Outside
		}
		r.report.Cells = append(r.report.Cells, row)
		r.report.Requests += c.Requests
	}
	r.report.Tenants = len(r.tenants)
	r.report.promise("a cell's fault is that cell's", healthy == 0 && r.blow.others > 0,
		"%d errors on healthy cells, %d requests answered there during the outage%s", healthy, r.blow.others, named([]string{first}))
	r.report.promise("a killed cell comes back and serves", outside == 0 && r.report.Outage.Refused > 0,
		"%d errors of %s within its outage, %d outside", r.report.Outage.Refused-outside, r.killed, outside)
}

// named shows the first few faults, if there are any.
func named(faults []string) string {
	text := strings.Join(faults, "; ")
	if text == "" {
		return ""
	}
	return ": " + text
}
