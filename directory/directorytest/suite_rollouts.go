package directorytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Staged is a directory with roll-outs under test. Step is the record's own: it
// takes the roll-out that is running a step further where it is time for one.
type Staged struct {
	directory.Directory
	directory.Rollouts
	Step func(ctx context.Context) (directory.Rollout, bool, error)
}

// RunRollouts holds Rollouts to the comments of the contract.
func RunRollouts(t *testing.T, open func(t *testing.T) Staged) {
	for name, test := range map[string]func(*testing.T, *rollouts){
		"Done": testRolloutDone, "NoHosts": testRolloutNoHosts, "Refused": testRolloutRefused, "Halted": testRolloutHalted, "Drift": testRolloutDrift,
		"Taken": testRolloutTaken, "StepsAtOnce": testRolloutStepsAtOnce, "CannotServe": testRolloutCannotServe, "Wakes": testRolloutWakes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			t.Cleanup(cancel)
			d := open(t)
			s := &rollouts{suite{d.Directory, directory.WithActor(ctx, Actor)}, d, map[string]directory.Report{}, nil}
			s.add(t, cell("c1"))
			s.add(t, cell("c2"))
			for _, slug := range []string{"a", "b"} {
				s.tenants = append(s.tenants, s.create(t, directory.NewTenant{Slug: slug, Cell: "c1", Hosts: []string{slug + ".test"}}).ID)
			}
			for _, id := range []string{"r1", "r2", "r3"} {
				s.poll(t, id)
			}
			test(t, s)
		})
	}
}

type rollouts struct {
	suite
	staged  Staged
	has     map[string]directory.Report // by router
	tenants []directory.TenantID
}

// poll is one beat of a router at the newest version; it takes the part that it is given.
func (s *rollouts) poll(t *testing.T, router string) *directory.Part {
	t.Helper()
	u, err := s.staged.Poll(s.ctx, router, s.snapshot(t).Version, 0, s.has[router])
	if err != nil {
		t.Fatalf("poll of %s: %v", router, err)
	}
	has := s.has[router]
	if u.Part != nil {
		has = directory.Report{Rollout: u.Part.Rollout, Round: u.Part.Round}
	}
	s.has[router] = has
	return u.Part
}

// fares lets each router say that it has answered a hundred requests, of which that
// many failed with a router that serves the changes.
func (s *rollouts) fares(t *testing.T, r directory.Rollout, failed int64) {
	t.Helper()
	for id := range s.has {
		s.poll(t, id)
		h := s.has[id]
		h.Requests = 100
		if slices.Contains(r.Routers, id) {
			h.Failed = failed
		}
		s.has[id] = h
		if p := s.poll(t, id); p != nil {
			t.Fatalf("%s: got %+v after it has its part", id, p)
		}
	}
}

// soak is as short as a wave can be.
const soak = time.Nanosecond

// begin makes a roll-out that gives c1 another address, a other hosts, and suspends b.
func (s *rollouts) begin(t *testing.T) directory.Rollout {
	t.Helper()
	hosts, yes := []string{"z.test", "a.test"}, true
	r, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{Why: "new network", Soak: soak, Changes: []directory.RolloutChange{
		{Cell: "c1", Address: "http://new.test"}, {Tenant: s.tenants[0], Hosts: &hosts}, {Tenant: s.tenants[1], Suspended: &yes},
	}})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return r
}

func (s *rollouts) step(t *testing.T, want directory.RolloutState) directory.Rollout {
	t.Helper()
	r, stepped, err := s.staged.Step(s.ctx)
	if err != nil || !stepped || r.State != want {
		t.Fatalf("step: got %s (%s), %v, %v, want %s", r.State, r.Reason, stepped, err, want)
	}
	return r
}

func testRolloutDone(t *testing.T, s *rollouts) {
	version := s.snapshot(t).Version
	r := s.begin(t)
	if r.State != directory.RolloutRunning || r.Wave != directory.Canary || len(r.Routers) != 1 || r.By != Actor || !strings.HasPrefix(string(r.ID), "ro_") {
		t.Errorf("begun: got %+v", r)
	}
	for _, want := range []struct {
		wave    directory.Wave
		routers int
	}{{directory.Canary, 1}, {directory.All, 3}} {
		serving := 0
		for id := range s.has {
			p := s.poll(t, id)
			if p == nil || p.Rollout != r.ID || p.Round != r.Round || fmt.Sprint(p.Watch) != "[ c1]" {
				t.Fatalf("%s in wave %s: got part %+v", id, r.Wave, p)
			}
			if !p.Serves() {
				continue
			}
			serving++
			a, b := p.Routes[0], p.Routes[1]
			if p.Cells[0].Address != "http://new.test" || fmt.Sprint(a.Slug, a.Hosts, a.State) != "a[a.test z.test]" || b.State != directory.Suspended || b.Hosts[0] != "b.test" {
				t.Errorf("%s serves %+v", id, p)
			}
		}
		if r.Wave != want.wave || serving != want.routers {
			t.Errorf("wave %s: %d routers serve the changes, want wave %s and %d", r.Wave, serving, want.wave, want.routers)
		}
		if got := s.snapshot(t).Version; got != version {
			t.Fatalf("wave %s: the record is at version %d, want still %d", r.Wave, got, version)
		}
		s.fares(t, r, 0)
		if got, err := s.staged.Rollout(s.ctx, r.ID); err != nil || got.Tallies == nil || got.Tallies.Wave.Requests != int64(100*want.routers) {
			t.Errorf("wave %s: got tallies %+v, %v", r.Wave, got.Tallies, err)
		}
		state := directory.RolloutRunning
		if want.wave == directory.All {
			state = directory.RolloutDone
		}
		r = s.step(t, state)
	}
	// What brings the changes also ends the part: no router serves one without the other.
	u, err := s.staged.Poll(s.ctx, "r1", version, time.Minute, s.has["r1"])
	if err != nil || u.Part == nil || u.Part.Serves() || u.Version != version+3 {
		t.Fatalf("after it: got %+v, %v", u, err)
	}
	if err := u.Continues(version, directory.Head{}); err != nil {
		t.Errorf("the changes do not continue the table: %v", err)
	}
	a, b := s.tenant(t, s.tenants[0]), s.tenant(t, s.tenants[1])
	c1, err := s.Cell(s.ctx, "c1")
	if err != nil || c1.Address != "http://new.test" || fmt.Sprint(a.Hosts) != "[a.test z.test]" || b.Placement.State != directory.Suspended || a.Placement.Epoch != 1 {
		t.Errorf("the record: got %+v, %+v, %+v, %v", c1, a, b, err)
	}
	s.expect(t, "c1 starts with the address of before", 0, 0, func() error {
		if c := s.add(t, cell("c1")); c.Address != "http://new.test" || c.Announced == c.Address {
			t.Errorf("c1 starts with the address of before: got %+v", c)
		}
		return nil
	})
	if lines := s.audit(t, "rollout/"+string(r.ID)); len(lines) != 3 || lines[0].Action != "rollout.create" {
		t.Errorf("audit: got %+v", lines)
	}
	if lines := s.audit(t, "cell/c1"); lines[len(lines)-1].Action != "rollout.apply" {
		t.Errorf("audit of c1: got %+v", lines)
	}
	list, err := s.staged.ListRollouts(s.ctx, 10)
	if err != nil || len(list) != 1 || list[0].ID != r.ID || list[0].State != directory.RolloutDone {
		t.Errorf("list: got %+v, %v", list, err)
	}
}

// testRolloutNoHosts: a tenant loses all its hosts, then gets one where it has none.
func testRolloutNoHosts(t *testing.T, s *rollouts) {
	for _, hosts := range [][]string{{}, {"c.test"}} {
		r, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{Why: "renamed", Soak: soak, Changes: []directory.RolloutChange{{Tenant: s.tenants[0], Hosts: &hosts}}})
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		for _, state := range []directory.RolloutState{directory.RolloutRunning, directory.RolloutDone} {
			for id := range s.has {
				if p := s.poll(t, id); p == nil || p.Serves() && !slices.Equal(p.Routes[0].Hosts, hosts) {
					t.Fatalf("got part %+v, want hosts %q", p, hosts)
				}
			}
			s.fares(t, r, 0)
			r = s.step(t, state)
		}
		if got := s.tenant(t, s.tenants[0]).Hosts; !slices.Equal(got, hosts) {
			t.Errorf("got hosts %q, want %q", got, hosts)
		}
	}
}

func testRolloutRefused(t *testing.T, s *rollouts) {
	taken, none := []string{"b.test"}, []string{}
	change := directory.RolloutChange{Cell: "c2", Address: "http://new.test"}
	for what, tt := range map[string]struct {
		change directory.RolloutChange
		want   problem.Kind
	}{
		"no such cell":   {directory.RolloutChange{Cell: "c9", Address: "http://new.test"}, problem.NotFound},
		"no such tenant": {directory.RolloutChange{Tenant: 999, Hosts: &none}, problem.NotFound},
		"nothing":        {directory.RolloutChange{Cell: "c2", Address: "http://c2.test"}, problem.Invalid},
		"no subject":     {directory.RolloutChange{Address: "http://c2.test"}, problem.Invalid},
		"host taken":     {directory.RolloutChange{Tenant: s.tenants[0], Hosts: &taken}, problem.Conflict},
	} {
		if _, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{Why: "x", Changes: []directory.RolloutChange{tt.change}}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %s", what, err, tt.want)
		}
	}
	dry, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{Why: "x", Changes: []directory.RolloutChange{change}, DryRun: true})
	if err != nil || dry.ID != "" || dry.Before[0].Address != "http://c2.test" {
		t.Errorf("dry run: got %+v, %v", dry, err)
	}
	r := s.begin(t)
	if _, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{Why: "x", Changes: []directory.RolloutChange{change}}); !errors.Is(err, problem.Conflict) {
		t.Errorf("a second one: got %v", err)
	}
	if _, stepped, err := s.staged.Step(s.ctx); stepped || err != nil {
		t.Errorf("without a report: got %v, %v", stepped, err)
	}
	if _, err := s.staged.Rollout(s.ctx, "ro_none"); !errors.Is(err, problem.NotFound) {
		t.Errorf("unknown: got %v", err)
	}
	for range 2 {
		if got, err := s.staged.AskRollout(s.ctx, r.ID, directory.Abort); err != nil || got.State != directory.RolloutAborted {
			t.Errorf("abort: got %s, %v", got.State, err)
		}
	}
	if _, err := s.staged.AskRollout(s.ctx, r.ID, directory.Resume); !errors.Is(err, problem.Conflict) {
		t.Errorf("resume of what is aborted: got %v", err)
	}
}

func testRolloutHalted(t *testing.T, s *rollouts) {
	version := s.snapshot(t).Version
	r := s.begin(t)
	s.fares(t, r, 50)
	halted := s.step(t, directory.RolloutHalted)
	if !strings.Contains(halted.Reason, "50 of 100 requests failed") {
		t.Errorf("reason: got %q", halted.Reason)
	}
	for id := range s.has {
		if p := s.poll(t, id); p == nil || p.Serves() || p.Rollout != "" {
			t.Errorf("%s after the halt: got part %+v, want none", id, p)
		}
	}
	if got := s.snapshot(t).Version; got != version {
		t.Errorf("the record is at version %d, want still %d", got, version)
	}
	again, err := s.staged.AskRollout(s.ctx, r.ID, directory.Resume)
	if err != nil || again.State != directory.RolloutRunning || again.Wave != directory.Canary || again.Round != r.Round+1 {
		t.Fatalf("resume: got %+v, %v", again, err)
	}
	if p := s.poll(t, again.Routers[0]); p == nil || !p.Serves() {
		t.Errorf("the canary after the resume: got part %+v", p)
	}
}

// testRolloutDrift: what somebody else has changed meanwhile is not overwritten, and not
// hidden: the wave serves the tenant as it was, also what of it the roll-out leaves alone.
func testRolloutDrift(t *testing.T, s *rollouts) {
	hosts, yes := []string{"other.test"}, true
	for what, tt := range map[string]struct {
		tenant directory.TenantID
		change directory.Change
	}{
		"the same":     {s.tenants[0], directory.Change{Hosts: &hosts}},
		"another part": {s.tenants[1], directory.Change{Hosts: &[]string{}}},
		"suspended":    {s.tenants[0], directory.Change{Suspended: &yes}},
	} {
		r := s.begin(t)
		if _, err := s.UpdateTenant(s.ctx, tt.tenant, tt.change); err != nil {
			t.Fatal(err)
		}
		r = s.step(t, directory.RolloutHalted)
		if !strings.Contains(r.Reason, "tenant/"+tt.tenant.String()) {
			t.Errorf("%s: reason: got %q", what, r.Reason)
		}
		if _, err := s.staged.AskRollout(s.ctx, r.ID, directory.Abort); err != nil {
			t.Fatal(err)
		}
	}
}

// testRolloutTaken: a host that another tenant got meanwhile halts the last step,
// and nothing of it is left; a move does not.
func testRolloutTaken(t *testing.T, s *rollouts) {
	r := s.begin(t)
	if err := s.Place(s.ctx, directory.Placement{Tenant: s.tenants[0], Cell: "c2", Epoch: 2, State: directory.Active}); err != nil {
		t.Fatal(err)
	}
	s.fares(t, r, 0)
	r = s.step(t, directory.RolloutRunning)
	s.create(t, directory.NewTenant{Slug: "thief", Hosts: []string{"z.test"}})
	s.fares(t, r, 0)
	if r = s.step(t, directory.RolloutHalted); !strings.Contains(r.Reason, "z.test") {
		t.Errorf("reason: got %q", r.Reason)
	}
	if c1, err := s.Cell(s.ctx, "c1"); err != nil || c1.Address != "http://c1.test" {
		t.Errorf("the record: got %+v, %v", c1, err)
	}
}

// testRolloutCannotServe: a canary that says so halts it, whatever the soak time.
func testRolloutCannotServe(t *testing.T, s *rollouts) {
	r, err := s.staged.CreateRollout(s.ctx, directory.NewRollout{
		Why: "x", Soak: time.Hour, Changes: []directory.RolloutChange{{Cell: "c1", Address: "http://new.test"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	canary := r.Routers[0]
	refusal := directory.Refusal{Rollout: r.ID, Round: r.Round, Why: "the hosts \"collide\""}
	s.has[canary] = directory.Report{Refused: &refusal}
	if p := s.poll(t, canary); p == nil || p.Rollout != r.ID {
		t.Errorf("got part %+v, want it once more", p)
	}
	if r = s.step(t, directory.RolloutHalted); !strings.Contains(r.Reason, canary) || !strings.Contains(r.Reason, refusal.Why) {
		t.Errorf("reason: got %q", r.Reason)
	}
	s.has[canary] = directory.Report{} // it says nothing of that any more
	s.poll(t, canary)
	if _, err := s.staged.AskRollout(s.ctx, r.ID, directory.Resume); err != nil {
		t.Fatal(err)
	}
	if r, stepped, err := s.staged.Step(s.ctx); stepped || err != nil {
		t.Errorf("resumed: got %s (%s), %v", r.State, r.Reason, err)
	}
}

// testRolloutStepsAtOnce: of many that step at once, one does.
func testRolloutStepsAtOnce(t *testing.T, s *rollouts) {
	r := s.begin(t)
	s.fares(t, r, 0)
	stepped := make(chan bool)
	for range 8 {
		go func() {
			_, did, err := s.staged.Step(s.ctx)
			stepped <- did && err == nil
		}()
	}
	n := 0
	for range 8 {
		if <-stepped {
			n++
		}
	}
	if got, err := s.staged.Rollout(s.ctx, r.ID); err != nil || n != 1 || got.Round != r.Round+1 {
		t.Errorf("%d of 8 stepped, to round %d, %v", n, got.Round, err)
	}
}

// testRolloutWakes: routers hear of a roll-out and of its end by the poll that waits.
func testRolloutWakes(t *testing.T, s *rollouts) {
	parts := make(chan *directory.Part)
	listen := func() {
		u, err := s.staged.Poll(s.ctx, "r1", s.snapshot(t).Version, time.Minute, s.has["r1"])
		if err != nil {
			t.Error(err)
		}
		parts <- u.Part
	}
	go listen()
	r := s.begin(t)
	p := <-parts
	if p == nil || p.Rollout != r.ID {
		t.Fatalf("got %+v", p)
	}
	s.has["r1"] = directory.Report{Rollout: p.Rollout, Round: p.Round}
	go listen()
	if _, err := s.staged.AskRollout(s.ctx, r.ID, directory.Halt); err != nil {
		t.Fatal(err)
	}
	if p := <-parts; p == nil || p.Rollout != "" {
		t.Errorf("got %+v, want the end of it", p)
	}
}
