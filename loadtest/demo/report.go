package demo

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// A Promise is one sentence that the demo puts to the test.
type Promise struct {
	Name   string `json:"name"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

// A Cell is one row of the result: how the requests of one cell's tenants ended.
type Cell struct {
	loadtest.CellReport
	Fate    string `json:"fate"` // "untouched", "killed and restarted", "added"
	Tenants int    `json:"tenants"`
	Outside int    `json:"errors_outside_outage"`
}

// An Outage is what was done to one cell, on the clock of the demo.
type Outage struct {
	Cell    directory.CellID `json:"cell"`
	Killed  []string         `json:"killed"`      // processes, by SIGKILL
	At      loadtest.Millis  `json:"at_ms"`       // since the traffic began
	Down    loadtest.Millis  `json:"down_ms"`     // from the kill to the restarted cell's readiness
	Refused int              `json:"errors"`      // requests of its tenants that failed meanwhile
	Others  int              `json:"other_cells"` // requests of other cells' tenants answered meanwhile
}

// A Report is the result of a demo. Its JSON form is stable.
type Report struct {
	APIVersion  string              `json:"apiVersion"`
	Kind        string              `json:"kind"`
	OK          bool                `json:"ok"`
	Seed        uint64              `json:"seed"`
	Took        loadtest.Millis     `json:"took_ms"`
	Requests    int                 `json:"requests"`
	Tenants     int                 `json:"tenants"`
	Routers     int                 `json:"routers"`
	Cells       []Cell              `json:"cells"`
	Outage      Outage              `json:"outage"`
	Moves       []*MoveAct          `json:"moves"`
	Writes      loadtest.Check      `json:"writes"`
	Events      loadtest.EventCheck `json:"events"`
	Propagation loadtest.Spread     `json:"propagation"`
	Overhead    Overhead            `json:"router_overhead"`
	Promises    []Promise           `json:"promises"`
	Data        string              `json:"data,omitempty"` // where the stack's data and logs were kept
}

// An Overhead is the time that routers add to a request, by their own clocks:
// router_overhead_seconds, from the request's head to the start of the answer,
// less the wait for the cell, for the client's body and for a newer table. It
// comes from a histogram and is no finer than its buckets. The hop over the
// loopback interface is not in it.
type Overhead struct {
	N   uint64          `json:"n"`
	P50 loadtest.Millis `json:"p50_ms"`
	P99 loadtest.Millis `json:"p99_ms"`
}

// promise adds a promise, and its breach to the verdict.
func (r *Report) promise(name string, held bool, format string, args ...any) {
	r.Promises = append(r.Promises, Promise{Name: name, Held: held, Detail: fmt.Sprintf(format, args...)})
	r.OK = r.OK && held
}

// Broken is the names of the promises that did not hold.
func (r *Report) Broken() []string {
	var names []string
	for _, p := range r.Promises {
		if !p.Held {
			names = append(names, p.Name)
		}
	}
	return names
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "CELL\tFATE\tTENANTS\tREQUESTS\tERRORS\tP50\tP99")
	for _, c := range r.Cells {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", c.Cell, c.Fate, c.Tenants, c.Requests, c.Errors, c.P50, c.P99)
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "MOVE\tTENANTS\tATTEMPTS\tFAILED REQUESTS\tLONGEST PAUSE\tLONGEST REQUEST\tROWS VERIFIED\tLOST/DOUBLED\tTOOK")
	for _, m := range r.Moves {
		fmt.Fprintf(t, "%s, %s\t%d\t%d\t%d of %d\t%s\t%s\t%d\t%d/%d\t%s\n",
			m.What, m.route(), m.Tenants, m.Attempts, m.Failed, m.Requests, m.Pause, m.Longest, m.Rows, m.Lost, m.Doubled, m.Took)
	}
	for _, m := range r.Moves {
		for _, why := range m.Aborted {
			fmt.Fprintf(t, "%s, %s: aborted, and tried again: %s\n", m.What, m.route(), why)
		}
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "MEASURED\tVALUE")
	fmt.Fprintf(t, "requests\t%d by %d tenants through %d routers, seed %d\n", r.Requests, r.Tenants, r.Routers, r.Seed)
	fmt.Fprintf(t, "outage\t%v killed with -9, back after %s; %d errors there, %d requests answered elsewhere meanwhile\n",
		r.Outage.Killed, r.Outage.Down, r.Outage.Refused, r.Outage.Others)
	fmt.Fprintf(t, "writes\t%d acknowledged; %d lost, %d doubled, %d unknown\n",
		r.Writes.Acknowledged, r.Writes.Lost, r.Writes.Doubled, r.Writes.Unknown)
	fmt.Fprintf(t, "events\t%d written, %d consumed; %d lost, %d doubled, %d faults of them or of their order\n",
		r.Events.Written, r.Events.Consumed, r.Events.Lost, r.Events.Doubled, r.Events.Faults)
	fmt.Fprintf(t, "route change\tp50 %s, p99 %s from the directory to every router, over %d changes under load\n",
		r.Propagation.P50, r.Propagation.P99, r.Propagation.N)
	fmt.Fprintf(t, "router adds\tp50 %s, p99 %s (router_overhead_seconds, over %d requests)\n", r.Overhead.P50, r.Overhead.P99, r.Overhead.N)
	fmt.Fprintln(t)
	fmt.Fprintln(t, "PROMISE\tHELD\tDETAIL")
	for _, p := range r.Promises {
		held := "yes"
		if !p.Held {
			held = "NO"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.Name, held, p.Detail)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	verdict := "every promise held"
	if !r.OK {
		verdict = fmt.Sprintf("BROKEN: %q", r.Broken())
	}
	_, err := fmt.Fprintf(w, "\n%s, in %.1f s\n", verdict, float64(r.Took)/1e9)
	return err
}
