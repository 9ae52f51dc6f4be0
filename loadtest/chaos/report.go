package chaos

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// A Violation is one thing that must never be.
type Violation struct {
	Round     int    `json:"round"`
	Invariant string `json:"invariant"` // of docs/MOVE.md; "harness" is that this run proves less than it says
	What      string `json:"what"`
}

// A Count is how often one kind of fault was done while its move was in a phase.
type Count struct {
	Blow
	Phase  directory.Phase `json:"phase"`  // of the move when it struck; "" is between two moves
	Struck int             `json:"struck"` // times
	Missed int             `json:"missed"` // times that there was nothing to strike
}

// A Report is the result of a run. Its JSON form is stable.
type Report struct {
	APIVersion string              `json:"apiVersion"`
	Kind       string              `json:"kind"`
	OK         bool                `json:"ok"`
	Seed       uint64              `json:"seed"`
	Took       loadtest.Millis     `json:"took_ms"`
	Rounds     int                 `json:"rounds"`
	Kills      int                 `json:"kills"` // by SIGKILL
	PerMinute  float64             `json:"kills_per_minute"`
	Faults     []Count             `json:"faults"`
	Stolen     int                 `json:"leases_stolen"` // from movers that were suspended
	Moves      map[string]int      `json:"moves"`         // by what was asked for and the phase in which it ended
	Requests   int                 `json:"requests"`
	Errors     int                 `json:"errors"`             // attempts that a client had to repeat
	Longest    loadtest.Millis     `json:"longest_request_ms"` // from the first attempt of a request to its answer
	Writes     loadtest.Check      `json:"writes"`
	Events     loadtest.EventCheck `json:"events"`
	Keys       KeyCheck            `json:"durable_keys"`
	Streams    StreamCheck         `json:"streams"`
	Violations []Violation         `json:"violations"`
	Data       string              `json:"data,omitempty"` // where the stack's data and logs are
}

// A KeyCheck is what was found of the tenants' durable keys and limits in Redis.
type KeyCheck struct {
	Acknowledged  int `json:"acknowledged"`   // writes
	Compared      int `json:"compared"`       // looks at a key after a round
	Lost          int `json:"lost"`           // not the last acknowledged word
	Allowed       int `json:"allowed"`        // not that either, with a Redis that was killed or a move that went on without it
	LimitsAllowed int `json:"limits_allowed"` // limits that were forgotten in the same way
	Without       int `json:"moves_without"`  // moves that arrived without all keys
	Back          int `json:"back"`           // keys that a Redis that was killed has again, where their tenant is not
}

func (c KeyCheck) plus(d KeyCheck) KeyCheck {
	return KeyCheck{
		c.Acknowledged + d.Acknowledged, c.Compared + d.Compared, c.Lost + d.Lost, c.Allowed + d.Allowed,
		c.LimitsAllowed + d.LimitsAllowed, c.Without + d.Without, c.Back + d.Back,
	}
}

// A StreamCheck is what those have heard who listened to tenants that moved.
type StreamCheck struct {
	Listeners   int `json:"listeners"`
	Heard       int `json:"heard"` // events, each listener's in order and none twice
	Connections int `json:"connections"`
	Refused     int `json:"refused"` // attempts to get a stream that got none
}

func (c StreamCheck) plus(d StreamCheck) StreamCheck {
	return StreamCheck{c.Listeners + d.Listeners, c.Heard + d.Heard, c.Connections + d.Connections, c.Refused + d.Refused}
}

func newReport(o Options) *Report {
	return &Report{
		APIVersion: loadtest.APIVersion, Kind: "ChaosReport", Seed: o.Seed, Moves: map[string]int{}, Violations: []Violation{}, Data: o.Dir,
	}
}

func (r *run) begin(round int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Rounds = round
}

// violationsMost bounds how many are named: the first ones tell most.
const violationsMost = 50

func (r *run) violate(invariant, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := Violation{Round: r.report.Rounds, Invariant: invariant, What: fmt.Sprintf(format, args...)}
	if len(r.report.Violations) < violationsMost {
		r.report.Violations = append(r.report.Violations, v)
		r.say("VIOLATION of %s in round %d: %s", v.Invariant, v.Round, v.What)
	}
}

// tally counts a fault.
func (r *run) tally(b Blow, at directory.Phase, struck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.report.Faults, func(c Count) bool { return c.Blow == b && c.Phase == at })
	if i < 0 {
		i = len(r.report.Faults)
		r.report.Faults = append(r.report.Faults, Count{Blow: b, Phase: at})
	}
	if !struck {
		r.report.Faults[i].Missed++
		return
	}
	r.report.Faults[i].Struck++
	if b.Verb == Kill || b.Verb == KillBackend {
		r.report.Kills++
	}
}

// tallyStolen counts a lease that was taken from a suspended mover.
func (r *run) tallyStolen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Stolen++
}

// finish fills in what is known at the end.
func (r *run) finish(began time.Time) *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.report
	rep.Took = loadtest.Millis(time.Since(began))
	rep.PerMinute = float64(rep.Kills) / time.Since(began).Minutes()
	for _, c := range r.rec.Cells() {
		rep.Requests += c.Requests
		rep.Errors += c.Errors
	}
	rep.Longest = loadtest.Millis(r.rec.Longest())
	slices.SortFunc(rep.Faults, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Blow.String(), b.Blow.String()), cmp.Compare(a.Phase, b.Phase))
	})
	rep.OK = len(rep.Violations) == 0
	return rep
}

// byBlow is the faults added up over phases, in the order of Blows.
func (rep *Report) byBlow() []Count {
	sum := map[Blow]Count{}
	for _, c := range rep.Faults {
		s := sum[c.Blow]
		sum[c.Blow] = Count{Blow: c.Blow, Struck: s.Struck + c.Struck, Missed: s.Missed + c.Missed}
	}
	var all []Count
	for _, b := range Blows() {
		if c, ok := sum[b]; ok {
			all = append(all, c)
		}
	}
	return all
}

// longRun is how many kills make a run in which a suspended mover must have lost a lease.
const longRun = 200

// silent is what the faults failed to do: kinds of statement faults that were aimed
// at as many databases as there are and struck at none, databases at which none of
// all kinds struck, and suspended movers none of which lost a lease. One fault may miss its moment; these
// say that a proxy is not in the way, or breaks nothing, or that no mover went on in a wrong belief.
func (rep *Report) silent() []string {
	kinds, databases := map[Verb]Count{}, map[Part]Count{}
	var all []string
	for _, c := range rep.byBlow() {
		if c.Verb == Suspend && rep.Stolen == 0 && rep.Kills >= longRun {
			all = append(all, fmt.Sprintf("movers were suspended %d times, and none has lost a lease", c.Struck+c.Missed))
		}
		if c.breaksStatement() {
			k, d := kinds[c.Verb], databases[c.Part]
			kinds[c.Verb] = Count{Struck: k.Struck + c.Struck, Missed: k.Missed + c.Missed}
			databases[c.Part] = Count{Struck: d.Struck + c.Struck, Missed: d.Missed + c.Missed}
		}
	}
	for _, v := range slices.Sorted(maps.Keys(kinds)) {
		if c := kinds[v]; c.Struck == 0 && c.Missed >= len(attacked()) {
			all = append(all, fmt.Sprintf("%q was aimed at statements %d times and never struck", v, c.Missed))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(databases)) {
		if c := databases[p]; c.Struck == 0 && c.Missed >= len(pgproxy.Kinds()) {
			all = append(all, fmt.Sprintf("%d faults were aimed at statements of %s and none struck", c.Missed, p))
		}
	}
	return all
}

// byPhase is how many faults struck in each phase.
func (rep *Report) byPhase() map[directory.Phase]int {
	sum := map[directory.Phase]int{}
	for _, c := range rep.Faults {
		sum[c.Phase] += c.Struck
	}
	return sum
}

// WriteTable prints the report for people.
func (rep *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "FAULT\tSTRUCK\tMISSED")
	for _, c := range rep.byBlow() {
		fmt.Fprintf(t, "%s\t%d\t%d\n", c.Blow, c.Struck, c.Missed)
	}
	fmt.Fprintln(t, "\nPHASE OF THE MOVE\tSTRUCK")
	phases := rep.byPhase()
	for _, p := range slices.Sorted(maps.Keys(phases)) {
		fmt.Fprintf(t, "%s\t%d\n", cmp.Or(string(p), "between moves"), phases[p])
	}
	fmt.Fprintln(t, "\nMOVE\tENDED AS")
	for _, m := range slices.Sorted(maps.Keys(rep.Moves)) {
		fmt.Fprintf(t, "%s\t%d\n", m, rep.Moves[m])
	}
	fmt.Fprintln(t)
	fmt.Fprintf(t, "leases\t%d were stolen from suspended movers\n", rep.Stolen)
	fmt.Fprintf(t, "requests\t%d, of which %d were repeated by the client; the longest took %s with all its attempts\n", rep.Requests, rep.Errors, rep.Longest)
	fmt.Fprintf(t, "writes\t%d acknowledged; %d lost, %d doubled, %d unknown\n", rep.Writes.Acknowledged, rep.Writes.Lost, rep.Writes.Doubled, rep.Writes.Unknown)
	fmt.Fprintf(t, "events\t%d written, %d consumed; %d out of order, doubled or missing\n", rep.Events.Written, rep.Events.Consumed, rep.Events.Faults)
	fmt.Fprintf(t, "durable keys\t%d writes acknowledged, %d looks at one; %d lost\n", rep.Keys.Acknowledged, rep.Keys.Compared, rep.Keys.Lost)
	fmt.Fprintf(t, "\tmay be lost, with a Redis that was killed or a move that went on without (%d moves): %d keys, %d limits; back where their tenant is not: %d\n",
		rep.Keys.Without, rep.Keys.Allowed, rep.Keys.LimitsAllowed, rep.Keys.Back)
	fmt.Fprintf(t, "event streams\t%d listeners heard %d events in order over %d connections\n", rep.Streams.Listeners, rep.Streams.Heard, rep.Streams.Connections)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, v := range rep.Violations {
		fmt.Fprintf(w, "\nVIOLATION of %s in round %d: %s\n", v.Invariant, v.Round, v.What)
	}
	_, err := fmt.Fprintf(w, "\n%d violations; %d kills in %d rounds and %.0f s (%.0f a minute); seed %d\n",
		len(rep.Violations), rep.Kills, rep.Rounds, float64(rep.Took)/1e9, rep.PerMinute, rep.Seed)
	return err
}
