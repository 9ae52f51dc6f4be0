package directory_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// A fleet is routers that do as they are told at once.
type fleet map[string]*directory.Heard

func newFleet(n int) fleet {
	f := fleet{}
	for i := range n {
		id := fmt.Sprintf("r%02d", i)
		f[id] = &directory.Heard{Router: id, Live: true}
	}
	return f
}

// hears tells every router its part.
func (f fleet) hears(r directory.Rollout) {
	for _, h := range f {
		if h.Live && (h.Rollout != r.ID || h.Round != r.Round) {
			h.Report = directory.Report{Rollout: r.ID, Round: r.Round}
		}
	}
}

// serves lets each live router answer requests, of which that many in a hundred fail.
func (f fleet) serves(r directory.Rollout, requests int64, wave, rest int64) {
	f.hears(r)
	for _, h := range f {
		share := rest
		if slices.Contains(r.Routers, h.Router) {
			share = wave
		}
		h.Requests += requests
		h.Failed += requests * share / 100
	}
}

func (f fleet) list() (all []directory.Heard) {
	for _, h := range f {
		all = append(all, *h)
	}
	return all
}

// begin is a roll-out of one change over n routers.
func begin(t interface{ Fatal(...any) }, f fleet, change func(*directory.NewRollout)) directory.Rollout {
	n := directory.NewRollout{Why: "new network", Changes: []directory.RolloutChange{{Cell: "c1", Address: "http://new"}}}
	if change != nil {
		change(&n)
	}
	r, err := n.Begin("ro_1", "ann", []directory.RolloutChange{{Cell: "c1", Address: "http://old"}}, f.list(), noon)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARolloutGoesFromWaveToWave(t *testing.T) {
	t.Parallel()
	f := newFleet(40)
	r := begin(t, f, nil)
	now := noon
	for _, want := range []struct {
		wave    directory.Wave
		routers int
	}{{directory.Canary, 1}, {directory.Tenth, 4}, {directory.All, 40}} {
		if r.State != directory.RolloutRunning || r.Wave != want.wave || len(r.Routers) != want.routers {
			t.Fatalf("got %s, wave %s of %v; want %s of %d", r.State, r.Wave, r.Routers, want.wave, want.routers)
		}
		before := r.Routers
		f.serves(r, 200, 1, 1)
		if _, stepped := r.Next(f.list(), "", now.Add(59*time.Second)); stepped {
			t.Errorf("%s: a step before the soak time is over", r.Wave)
		}
		now = now.Add(61 * time.Second)
		next, stepped := r.Next(f.list(), "", now)
		if !stepped {
			t.Fatalf("%s: no step when its time had come", r.Wave)
		}
		for _, id := range before {
			if !slices.Contains(next.Routers, id) {
				t.Errorf("%s: %s left the wave", next.Wave, id)
			}
		}
		r = next
	}
	if r.State != directory.RolloutDone || r.Round != 3 {
		t.Errorf("got %s after round %d, want it done after 3", r.State, r.Round)
	}
	if again, stepped := r.Next(f.list(), "", now.Add(time.Hour)); stepped || again.State != directory.RolloutDone {
		t.Error("a roll-out that is done took a step")
	}
}

func TestSmallFleetsSkipWaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		routers int
		waves   []directory.Wave
	}{
		{1, []directory.Wave{directory.Canary}},
		{5, []directory.Wave{directory.Canary, directory.All}},
		{11, []directory.Wave{directory.Canary, directory.Tenth, directory.All}},
	} {
		f := newFleet(tt.routers)
		r := begin(t, f, nil)
		var got []directory.Wave
		for now := noon; r.State == directory.RolloutRunning; {
			got = append(got, r.Wave)
			f.serves(r, 200, 0, 0)
			now = now.Add(time.Hour)
			r, _ = r.Next(f.list(), "", now)
		}
		if !slices.Equal(got, tt.waves) || r.State != directory.RolloutDone {
			t.Errorf("%d routers: got waves %v and %s, want %v", tt.routers, got, r.State, tt.waves)
		}
	}
}

func TestWhatHaltsARollout(t *testing.T) {
	t.Parallel()
	zero := int64(0)
	for _, tt := range []struct {
		what   string
		change func(*directory.NewRollout)
		does   func(f fleet, r directory.Rollout)
		drift  string
		after  time.Duration
		want   string // of the reason; "" where it goes on
	}{
		{what: "the canary's requests fail", does: func(f fleet, r directory.Rollout) { f.serves(r, 100, 10, 1) }, want: "10 of 100 requests failed"},
		{what: "everybody's do", does: func(f fleet, r directory.Rollout) { f.serves(r, 100, 30, 30) }},
		{what: "a little more than the others'", does: func(f fleet, r directory.Rollout) { f.serves(r, 100, 3, 1) }},
		{what: "too few to tell", does: func(f fleet, r directory.Rollout) { f.serves(r, 10, 100, 0) }},
		{
			what: "too few to tell, and the time is over", does: func(f fleet, r directory.Rollout) { f.serves(r, 10, 100, 0) },
			change: func(n *directory.NewRollout) { n.Requests = &zero }, after: time.Hour, want: "10 of 10 requests failed",
		},
		{
			what: "all fail and nobody judges", does: func(f fleet, r directory.Rollout) { f.serves(r, 100, 100, 0) },
			change: func(n *directory.NewRollout) { one := 1.0; n.Margin = &one },
		},
		{what: "the canary dies", does: func(f fleet, r directory.Rollout) { f[r.Routers[0]].Live = false }, want: "has not been heard of"},
		{what: "the canary is forgotten", does: func(f fleet, r directory.Rollout) { delete(f, r.Routers[0]) }, want: "has not been heard of"},
		{what: "another router dies", does: func(f fleet, r directory.Rollout) {
			for id, h := range f {
				h.Live = id == r.Routers[0]
			}
		}},
		{
			what: "fewer than asked for, nearly all failed, and the time is over", after: 61 * time.Second,
			does: func(f fleet, r directory.Rollout) { f.serves(r, 6, 90, 0) }, want: "5 of 6 requests failed",
		},
		{what: "the same, and everybody's fail", does: func(f fleet, r directory.Rollout) { f.serves(r, 6, 90, 90) }, after: 61 * time.Second},
		{what: "the same, not over yet", does: func(f fleet, r directory.Rollout) { f.serves(r, 6, 90, 0) }, after: 59 * time.Second},
		{what: "few, some failed, and the time is over", does: func(f fleet, r directory.Rollout) { f.serves(r, 8, 25, 0) }, after: 61 * time.Second},
		{what: "hardly any, and the time is over", does: func(f fleet, r directory.Rollout) { f.serves(r, 4, 100, 0) }, after: 61 * time.Second},
		{what: "the canary does not take it", change: soakLong, does: func(fleet, directory.Rollout) {}, after: 21 * time.Second, want: "has not taken the changes"},
		{what: "it was started again, a moment ago", change: soakLong, does: withoutSince(time.Hour), after: time.Hour + time.Second},
		{what: "and does not take it", change: soakLong, does: withoutSince(time.Hour), after: time.Hour + 21*time.Second, want: "has not taken the changes"},
		{what: "nor has it to yet", change: soakLong, does: func(fleet, directory.Rollout) {}, after: 19 * time.Second},
		{what: "the canary cannot serve it", change: soakLong, does: refuses(0), want: "cannot serve the changes: no room"},
		{what: "it could not serve an earlier round", change: soakLong, does: refuses(-1)},
		{what: "another router says so", change: soakLong, does: func(f fleet, r directory.Rollout) {
			for id, h := range f {
				if id != r.Routers[0] {
					h.Refused = &directory.Refusal{Rollout: r.ID, Round: r.Round, Why: "no room"}
				}
			}
		}},
		{what: "the record changes", does: func(fleet, directory.Rollout) {}, drift: "cell/c1", want: "cell/c1"},
	} {
		f := newFleet(3)
		r := begin(t, f, tt.change)
		tt.does(f, r)
		next, stepped := r.Next(f.list(), tt.drift, noon.Add(max(tt.after, time.Second)))
		switch {
		case tt.want == "" && (stepped || next.State != directory.RolloutRunning):
			t.Errorf("%s: got %s (%s), want no step", tt.what, next.State, next.Reason)
		case tt.want != "" && (next.State != directory.RolloutHalted || !strings.Contains(next.Reason, tt.want)):
			t.Errorf("%s: got %s (%s), want it halted because of %q", tt.what, next.State, next.Reason, tt.want)
		}
	}
}

// soakLong lets nothing happen because a wave's time is over.
func soakLong(n *directory.NewRollout) { n.Soak = 24 * time.Hour }

// withoutSince lets the canary, which had its part, be without it from so long after the beginning on.
func withoutSince(d time.Duration) func(fleet, directory.Rollout) {
	return func(f fleet, r directory.Rollout) { f[r.Routers[0]].Without = noon.Add(d) }
}

// refuses lets the canary say that it could not serve the part of a round, from the open one.
func refuses(from int) func(fleet, directory.Rollout) {
	return func(f fleet, r directory.Rollout) {
		f[r.Routers[0]].Refused = &directory.Refusal{Rollout: r.ID, Round: r.Round + from, Why: "no room"}
	}
}

// TestTheLastWaveIsComparedWithWhatWas: nobody is left to compare it with.
func TestTheLastWaveIsComparedWithWhatWas(t *testing.T) {
	t.Parallel()
	for share, want := range map[int64]directory.RolloutState{11: directory.RolloutRunning, 20: directory.RolloutHalted} {
		f := newFleet(2)
		r := begin(t, f, nil)
		f.serves(r, 200, 10, 10)
		r, _ = r.Next(f.list(), "", noon.Add(time.Hour))
		if r.Wave != directory.All {
			t.Fatalf("got wave %s", r.Wave)
		}
		f.serves(r, 200, share, 0)
		if r, _ = r.Next(f.list(), "", r.Opened.Add(time.Second)); r.State != want {
			t.Errorf("%d %% after 10 %%: got %s, want %s", share, r.State, want)
		}
	}
}

func TestReportsOfAnotherRoundDoNotCount(t *testing.T) {
	t.Parallel()
	f := newFleet(2)
	r := begin(t, f, nil)
	f.serves(r, 100, 100, 0)
	r = r.Stop(directory.RolloutHalted, "x", noon)
	r, err := r.Ask(directory.Resume, "ann", f.list(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if next, stepped := r.Next(f.list(), "", noon.Add(time.Second)); stepped {
		t.Errorf("got %s (%s) by what was reported before", next.State, next.Reason)
	}
}

func TestWishes(t *testing.T) {
	t.Parallel()
	f := newFleet(3)
	for _, tt := range []struct {
		state, want directory.RolloutState // "" is a conflict
		wish        directory.RolloutWish
	}{
		{directory.RolloutRunning, directory.RolloutHalted, directory.Halt},
		{directory.RolloutHalted, directory.RolloutHalted, directory.Halt},
		{directory.RolloutHalted, directory.RolloutRunning, directory.Resume},
		{directory.RolloutRunning, directory.RolloutRunning, directory.Resume},
		{directory.RolloutRunning, directory.RolloutAborted, directory.Abort},
		{directory.RolloutHalted, directory.RolloutAborted, directory.Abort},
		{directory.RolloutAborted, directory.RolloutAborted, directory.Abort},
		{directory.RolloutDone, "", directory.Abort},
		{directory.RolloutAborted, "", directory.Resume},
		{directory.RolloutDone, "", directory.Halt},
	} {
		r := begin(t, f, nil)
		r.State = tt.state
		got, err := r.Ask(tt.wish, "ann", f.list(), noon.Add(time.Minute))
		if tt.want == "" != errors.Is(err, problem.Conflict) || err == nil && got.State != tt.want {
			t.Errorf("%s of one that is %s: got %s, %v, want %q", tt.wish, tt.state, got.State, err, tt.want)
		}
		if resumed := tt.state == directory.RolloutHalted && tt.wish == directory.Resume; err == nil && resumed != (got.Round > r.Round) {
			t.Errorf("%s of one that is %s: round %d after %d", tt.wish, tt.state, got.Round, r.Round)
		}
	}
}

func TestTheCanaryIsNotAlwaysTheSame(t *testing.T) {
	t.Parallel()
	f := newFleet(10)
	seen := map[string]bool{}
	for i := range 50 {
		n := directory.NewRollout{Why: "x", Changes: []directory.RolloutChange{{Cell: "c1", Address: "http://new"}}}
		before := []directory.RolloutChange{{Cell: "c1", Address: "http://old"}}
		id := directory.RolloutID(fmt.Sprintf("ro_%d", i))
		first, err := n.Begin(id, "ann", before, f.list(), noon)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := n.Begin(id, "ann", before, f.list(), noon); !slices.Equal(again.Routers, first.Routers) {
			t.Errorf("%s: canary %v, then %v", id, first.Routers, again.Routers)
		}
		seen[first.Routers[0]] = true
	}
	if len(seen) < 5 {
		t.Errorf("%d routers were the canary of 50 roll-outs", len(seen))
	}
}

func TestBadRollouts(t *testing.T) {
	t.Parallel()
	yes, minus, two := true, int64(-1), 2.0
	hosts, one, both := []string{"UPPER.test"}, []string{"a.test"}, []string{"b.test", "a.test"}
	cell := directory.RolloutChange{Cell: "c1", Address: "http://new"}
	for pointer, n := range map[string]directory.NewRollout{
		"/changes":           {Why: "x"},
		"/why":               {Changes: []directory.RolloutChange{cell}},
		"/soak":              {Why: "x", Changes: []directory.RolloutChange{cell}, Soak: -1},
		"/requests":          {Why: "x", Changes: []directory.RolloutChange{cell}, Requests: &minus},
		"/margin":            {Why: "x", Changes: []directory.RolloutChange{cell}, Margin: &two},
		"/changes/0":         {Why: "x", Changes: []directory.RolloutChange{{Tenant: 1}}},
		"/changes/1":         {Why: "x", Changes: []directory.RolloutChange{cell, cell}},
		"/changes/0/address": {Why: "x", Changes: []directory.RolloutChange{{Cell: "c1", Address: "c1:80"}}},
		"/changes/1/address": {Why: "x", Changes: []directory.RolloutChange{cell, {Cell: "c2", Address: "http://0.0.0.0:80"}}},
		"/changes/0/hosts/0": {Why: "x", Changes: []directory.RolloutChange{{Tenant: 1, Hosts: &hosts}}},
		"/changes/1/hosts/1": {Why: "x", Changes: []directory.RolloutChange{{Tenant: 1, Hosts: &one}, {Tenant: 2, Hosts: &both}}},
	} {
		err := n.Validate()
		if e, ok := errors.AsType[*problem.Error](err); !ok || len(e.Fields) != 1 || e.Fields[0].Pointer != pointer {
			t.Errorf("%s: got %v", pointer, err)
		}
	}
	n := directory.NewRollout{Why: "x", Changes: []directory.RolloutChange{{Tenant: 1, Suspended: &yes}}}
	if _, err := n.Begin("ro_1", "ann", n.Changes, newFleet(1).list(), noon); !errors.Is(err, problem.Invalid) {
		t.Errorf("nothing to change: got %v", err)
	}
	n.Changes[0].Suspended = new(bool)
	if _, err := n.Begin("ro_1", "ann", []directory.RolloutChange{{Tenant: 1, Suspended: &yes}}, nil, noon); !errors.Is(err, problem.Conflict) {
		t.Errorf("no router: got %v", err)
	}
}

// TestAnyRollout lets routers come, go and fare as they like, and expects what holds
// whatever they do: a wave never loses a router that lives, nobody is in it twice,
// rounds only grow, and a router that fails everything never lets the next wave open.
func TestAnyRollout(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(rapid.IntRange(1, 30).Draw(t, "routers"))
		r := begin(t, f, nil)
		poisoned := rapid.Bool().Draw(t, "poisoned")
		now := noon
		for range 40 {
			wave := int64(0)
			if poisoned {
				wave = 100
			}
			switch rapid.SampledFrom([]string{"serve", "serve", "die", "join", "idle", "resume"}).Draw(t, "does") {
			case "serve":
				f.serves(r, 200, wave, 0)
			case "die":
				f[rapid.SampledFrom(slices.Sorted(maps.Keys(f))).Draw(t, "who")].Live = false
			case "join":
				id := fmt.Sprintf("n%d", len(f))
				f[id] = &directory.Heard{Router: id, Live: true}
			case "resume":
				if r.State == directory.RolloutHalted {
					if next, err := r.Ask(directory.Resume, "ann", f.list(), now); err == nil {
						r = next
					}
				}
			}
			now = now.Add(30 * time.Second)
			next, stepped := r.Next(f.list(), "", now)
			if !stepped && next.State != r.State || next.Round < r.Round {
				t.Fatalf("from %s in round %d to %s in round %d", r.State, r.Round, next.State, next.Round)
			}
			if poisoned && (next.Wave != directory.Canary || next.State == directory.RolloutDone) {
				t.Fatalf("poisoned, and %s in wave %s", next.State, next.Wave)
			}
			for i, id := range next.Routers {
				if slices.Contains(next.Routers[:i], id) {
					t.Fatalf("%s is in the wave twice: %v", id, next.Routers)
				}
			}
			if next.State == directory.RolloutRunning && stepped {
				for _, id := range r.Routers {
					if f[id].Live && !slices.Contains(next.Routers, id) {
						t.Fatalf("%s left the wave", id)
					}
				}
			}
			r = next
		}
	})
}
