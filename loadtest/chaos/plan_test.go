package chaos

import (
	"reflect"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

func TestPlanFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	first := Plan(Options{Seed: 7}, 50)
	if again := Plan(Options{Seed: 7}, 50); !reflect.DeepEqual(first, again) {
		t.Error("the same seed gave another plan")
	}
	if other := Plan(Options{Seed: 8}, 50); reflect.DeepEqual(first, other) {
		t.Error("another seed gave the same plan")
	}
}

// Every kind of fault is in the rounds of a short run, every kind at every phase
// in those of a long one.
func TestPlanLeavesNothingOut(t *testing.T) {
	t.Parallel()
	type pair struct {
		Blow
		at directory.Phase
	}
	short, long := map[Blow]int{}, map[pair]int{}
	all := len(Blows()) * (1 + len(phases()))
	o, err := Options{Seed: 3, BinDir: "."}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range Plan(o, all/o.Faults+1) {
		if len(r.Errands) != 3 || len(r.Faults) != o.Faults {
			t.Fatalf("round %d: %d errands, %d faults", i, len(r.Errands), len(r.Faults))
		}
		for _, f := range r.Faults {
			if f.Tenant < 0 || f.Tenant >= len(r.Errands) || f.Nth < 1 {
				t.Errorf("round %d: %+v", i, f)
			}
			if slow := f.Verb == Verb(pgproxy.Slow); slow != (f.Pace.Latency > 0 && f.Pace.Rate > 0) {
				t.Errorf("round %d: %v has the pace %+v", i, f, f.Pace)
			}
			if f.Phase == directory.Aborting && r.Errands[f.Tenant].Cancel == "" {
				t.Errorf("round %d: %v, and nobody cancels", i, f)
			}
			if i < o.once() {
				short[f.Blow]++
			}
			long[pair{f.Blow, f.Phase}]++
		}
	}
	for _, b := range Blows() {
		if short[b] == 0 {
			t.Errorf("a short run has no %v", b)
		}
		for _, p := range phases() {
			if long[pair{b, p}] == 0 {
				t.Errorf("a long run has no %v at %q", b, p)
			}
		}
	}
}

func TestPassed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at, p directory.Phase
		want  bool
	}{
		{directory.Planned, directory.Frozen, false},
		{directory.Frozen, directory.Frozen, true},
		{directory.Decided, directory.Frozen, true},
		{directory.Frozen, directory.Aborting, false},
		{directory.Aborting, directory.Aborting, true},
		{directory.Decided, directory.Aborting, true}, // the cancel came too late
		{directory.Aborting, directory.Frozen, true},
		{directory.Aborted, directory.Frozen, true},
		{directory.Completed, directory.Watching, true},
	} {
		if got := passed(tt.at, tt.p); got != tt.want {
			t.Errorf("a move in %s passed %s: got %v, want %v", tt.at, tt.p, got, tt.want)
		}
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	r := &run{}
	m := directory.Move{Source: "c2", Target: "c1", Holder: "mover-2"}
	for part, want := range map[Part]string{
		Mover: "mover-2", Router: "router-2", Source: "c2", SourceWorker: "c2-worker", SourcePostgres: "c2-postgres", SourceRedis: "c2-redis",
		Target: "c1", TargetPostgres: "c1-postgres", SourceLink: "c2-link", TargetLink: "c1-link", Directory: "directory", DirectoryPostgres: "directory-postgres",
	} {
		if got := r.process(Fault{Blow: Blow{Kill, part}, Nth: 1}, m); got != want {
			t.Errorf("%s: got %s, want %s", part, got, want)
		}
	}
	if got := r.process(Fault{Blow: Blow{Kill, Mover}, Nth: 2}, directory.Move{}); got != "mover-1" {
		t.Errorf("the mover of a move that nobody holds: got %s", got)
	}
}
