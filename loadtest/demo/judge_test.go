package demo

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// played is a run as it is after a demo in which everything held.
func played() *run {
	died := time.Unix(1000, 0)
	r := &run{
		o: Options{Changes: 2, Seed: 1}, rec: &loadtest.Recorder{}, killed: "c2", added: "c4", began: died.Add(-5 * time.Second),
		blow: blow{victims: []string{"c2", "c2-postgres"}, died: died, back: died.Add(3 * time.Second), others: 10},
		report: &Report{
			OK: true, Seed: 1, Routers: 2,
			Writes:      loadtest.Check{Acknowledged: 5, Rows: 3},
			Events:      loadtest.EventCheck{Written: 5, Consumed: 5},
			Propagation: loadtest.Percentiles([]time.Duration{time.Millisecond, 2 * time.Millisecond}),
		},
	}
	for _, cell := range []directory.CellID{"c1", "c2", "c4"} {
		r.rec.Add(loadtest.Attempt{Cell: cell, At: died, Took: time.Millisecond})
	}
	r.rec.Add(loadtest.Attempt{Cell: "c2", At: died.Add(time.Second), Took: time.Millisecond, Fault: "503 cell-unavailable"})
	return r
}

// TestJudgeNamesTheBrokenPromise breaks one thing at a time.
func TestJudgeNamesTheBrokenPromise(t *testing.T) {
	t.Parallel()
	const (
		others  = "a cell's fault is that cell's"
		back    = "a killed cell comes back and serves"
		writes  = "every acknowledged write is there once"
		events  = "every event is consumed once, in order per tenant"
		changes = "a route change reaches every router"
	)
	fault := func(cell directory.CellID, after time.Duration) func(r *run) {
		return func(r *run) {
			r.rec.Add(loadtest.Attempt{Cell: cell, At: r.blow.died.Add(after), Took: time.Millisecond, Fault: "503"})
		}
	}
	for _, tt := range []struct {
		name   string
		harm   func(r *run)
		broken string
	}{
		{"nothing", func(*run) {}, ""},
		{"an error elsewhere", fault("c1", time.Second), others},
		{"an error of the added cell", fault("c4", time.Second), others},
		{"nobody asked meanwhile", func(r *run) { r.blow.others = 0 }, others},
		{"an error before the outage", fault("c2", -time.Second), back},
		{"an error after the outage", fault("c2", 10*time.Second), back},
		{"a lost write", func(r *run) { r.report.Writes.Lost = 1 }, writes},
		{"no write", func(r *run) { r.report.Writes.Acknowledged = 0 }, writes},
		{"an event not consumed", func(r *run) { r.report.Events.Consumed-- }, events},
		{"an event out of order", func(r *run) { r.report.Events.Faults = 1 }, events},
		{"a change too few", func(r *run) { r.o.Changes = 3 }, changes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := played()
			tt.harm(r)
			r.judge()
			if got := strings.Join(r.report.Broken(), ","); got != tt.broken || r.report.OK != (tt.broken == "") {
				t.Errorf("broken: got %q (ok %v), want %q: %+v", got, r.report.OK, tt.broken, r.report.Promises)
			}
		})
	}
}

func TestReportAsTableAndJSON(t *testing.T) {
	t.Parallel()
	r := played()
	r.report.Moves = []*MoveAct{{
		What: "moved", From: "c1", To: "c4", Tenants: 1, Attempts: 2, Aborted: []string{"the pause exceeded its budget of 300ms"}, Rows: 7, Watch: loadtest.Watch{Requests: 3},
	}}
	r.judge()
	var table bytes.Buffer
	if err := r.report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"c1", "killed and restarted", "added", "5 written, 5 consumed", "every promise held",
		"moved, c1 to c4   1         2 ", "moved, c1 to c4: aborted, and tried again: the pause exceeded",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	b, err := json.Marshal(r.report)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		OK     bool
		Cells  []struct{ Cell, Fate string }
		Outage struct {
			Down float64 `json:"down_ms"`
		}
	}
	if err := json.Unmarshal(b, &back); err != nil || !back.OK || len(back.Cells) != 3 || back.Outage.Down != 3000 {
		t.Errorf("JSON: got %+v, %v from %s", back, err, b)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Cells: 1}, {Cells: 3, Tenants: 2}, {Routers: -1}, {Changes: -1}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
