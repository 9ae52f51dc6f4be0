package chaos

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

func TestTwoOwners(t *testing.T) {
	t.Parallel()
	ids := []directory.CellID{"a", "b"}
	at := func(state string, epoch directory.Epoch) fences {
		return fences{7: {Tenant: 7, State: state, Epoch: epoch}}
	}
	for name, tt := range map[string]struct {
		first, again []fences
		want         int
	}{
		"one owner":              {[]fences{at("active", 1), at("incoming", 2)}, []fences{at("active", 1), at("incoming", 2)}, 0},
		"it moved between":       {[]fences{at("active", 1), at("active", 2)}, []fences{at("moved", 2), at("active", 2)}, 0},
		"it moved and came back": {[]fences{at("active", 1), at("active", 2)}, []fences{at("active", 3), at("moved", 3)}, 0},
		"never at one of them":   {[]fences{at("active", 1), {}}, []fences{at("active", 1), {}}, 0},
		"two":                    {[]fences{at("active", 1), at("active", 2)}, []fences{at("active", 1), at("active", 2)}, 1},
	} {
		if got := twoOwners(ids, tt.first, tt.again); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d", name, got, tt.want)
		}
	}
}

func TestWrongFence(t *testing.T) {
	t.Parallel()
	owner := directory.Placement{Cell: "b", Epoch: 4}
	open := directory.Move{ID: "mv_1", Source: "a"}
	for name, tt := range map[string]struct {
		cell     directory.CellID
		f        fence
		known    bool
		watching directory.Move
		want     string
	}{
		"owner":               {"b", fence{State: "active", Epoch: 4}, true, directory.Move{}, ""},
		"owner who watches":   {"b", fence{State: "active", Epoch: 4, Capture: true, Noted: 9}, true, open, ""},
		"owner without one":   {"b", fence{}, false, directory.Move{}, "I12"},
		"never there":         {"a", fence{}, false, directory.Move{}, ""},
		"tombstone":           {"a", fence{State: "moved", Epoch: 4}, true, directory.Move{}, ""},
		"copy for a way back": {"a", fence{State: "moved", Epoch: 4, Noted: 9}, true, open, ""},
		"owner at an old one": {"b", fence{State: "active", Epoch: 2}, true, directory.Move{}, "I12"},
		"owner still frozen":  {"b", fence{State: "frozen", Epoch: 4}, true, directory.Move{}, "I12"},
		"two":                 {"a", fence{State: "active", Epoch: 4}, true, directory.Move{}, "I12"},
		"still awaited":       {"a", fence{State: "incoming", Epoch: 3}, true, directory.Move{}, "I12"},
		"tombstone above":     {"a", fence{State: "moved", Epoch: 5}, true, directory.Move{}, "I12"},
		"watches too little":  {"b", fence{State: "active", Epoch: 4}, true, open, "I11"},
		"watches too long":    {"b", fence{State: "active", Epoch: 4, Capture: true}, true, directory.Move{}, "I11"},
		"keys left":           {"a", fence{State: "moved", Epoch: 4, Noted: lateNotes + 1}, true, directory.Move{}, "I11"},
	} {
		got := ""
		for _, v := range wrongFence(tt.cell, tt.f, tt.known, owner, tt.watching) {
			got += v.Invariant
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if got := wrongFence("b", fence{}, false, directory.Placement{Cell: "b", Epoch: 1}, directory.Move{}); got != nil {
		t.Errorf("not used yet: got %v", got)
	}
}

func TestReportTellsWhatBroke(t *testing.T) {
	t.Parallel()
	r := &run{o: Options{Progress: &bytes.Buffer{}}, report: newReport(Options{Seed: 5})}
	r.begin(3)
	r.tally(Blow{Kill, Mover}, directory.Frozen, true)
	r.tally(Blow{Kill, Mover}, directory.Frozen, true)
	r.tally(Blow{KillBackend, SourcePostgres}, anyMoment, true)
	r.tally(Blow{Flood, SourcePostgres}, directory.Armed, false)
	r.violate("I2", "%d rows are lost", 1)
	var out bytes.Buffer
	if err := r.report.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kill mover ", "between moves", "VIOLATION of I2 in round 3: 1 rows are lost", "1 violations; 3 kills in 3 rounds", "seed 5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
}

// Faults that miss now and then are said; proxies that break nothing fail the run.
func TestAProxyThatNeverStrikesIsAViolation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		strikes func(b Blow) bool
		want    int
	}{
		"all strike":                     {func(Blow) bool { return true }, 0},
		"each kind at one database":      {func(b Blow) bool { return b.Part == DirectoryPostgres || b.Verb == Verb(pgproxy.Cut) }, 0},
		"a kind never":                   {func(b Blow) bool { return b.Verb != Verb(pgproxy.Answer) }, 1},
		"a database never":               {func(b Blow) bool { return b.Part != SourcePostgres }, 1},
		"none":                           {func(Blow) bool { return false }, len(pgproxy.Kinds()) + len(attacked())},
		"no process killed, all proxies": {Blow.breaksStatement, 0}, // what is killed is missed only where another fault was quicker
	} {
		r := &run{o: Options{Progress: &bytes.Buffer{}}, report: newReport(Options{})}
		for _, b := range Blows() {
			r.tally(b, directory.Armed, tt.strikes(b))
		}
		if got := r.report.silent(); len(got) != tt.want {
			t.Errorf("%s: got %q, want %d", name, got, tt.want)
		}
	}
	r := &run{report: newReport(Options{})}
	r.tally(Blow{Verb(pgproxy.Cut), SourcePostgres}, directory.Armed, false)
	if got := r.report.silent(); got != nil {
		t.Errorf("one fault that missed: got %q", got)
	}
}

// A short run may meet no lease that can be lost; a long one in which none was has tried no mover that goes on in a
// wrong belief.
func TestALongRunStealsLeases(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kills, suspended, stolen, want int
	}{
		"short":            {longRun - 1, 9, 0, 0},
		"long":             {longRun, 9, 0, 1},
		"long, and one":    {longRun, 9, 1, 0},
		"none was stopped": {longRun, 0, 0, 0},
	} {
		r := &run{report: newReport(Options{})}
		for range tt.kills {
			r.tally(Blow{Kill, Router}, anyMoment, true)
		}
		for range tt.suspended {
			r.tally(Blow{Suspend, Mover}, anyMoment, false)
		}
		for range tt.stolen {
			r.tallyStolen()
		}
		if got := r.report.silent(); len(got) != tt.want {
			t.Errorf("%s: got %q, want %d", name, got, tt.want)
		}
	}
}
