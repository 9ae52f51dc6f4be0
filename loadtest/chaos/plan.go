package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// A Verb is what is done to a part of the stack.
type Verb string

// The verbs. Those of a proxy are the names of pgproxy's kinds.
const (
	Kill        Verb = "kill"         // SIGKILL of the process; of a Postgres, of its postmaster
	KillBackend Verb = "kill backend" // SIGKILL of a server process that works for a mover or an application
	Suspend     Verb = "suspend"      // SIGSTOP until another mover has taken over, then SIGCONT
	Flood       Verb = "flood"        // a neighbour's transaction writes and commits very many rows
)

// A Part is what is struck, as seen from the move that the fault is aimed at.
type Part string

// The parts.
const (
	Mover             Part = "mover" // the one that holds the move
	Router            Part = "router"
	Source            Part = "source"
	SourceWorker      Part = "source-worker"
	SourcePostgres    Part = "source-postgres"
	SourceRedis       Part = "source-redis"
	Target            Part = "target"
	TargetWorker      Part = "target-worker"
	TargetPostgres    Part = "target-postgres"
	TargetRedis       Part = "target-redis"
	Directory         Part = "directory"
	DirectoryPostgres Part = "directory-postgres"
	SourceLink        Part = "source-link" // by which movers, and the target, reach its transfer endpoint
	TargetLink        Part = "target-link"
)

// A Blow is one kind of fault.
type Blow struct {
	Verb Verb `json:"verb"`
	Part Part `json:"part"`
}

// String is for people.
func (b Blow) String() string { return string(b.Verb) + " " + string(b.Part) }

// breaksStatement reports whether the blow is a proxy's.
func (b Blow) breaksStatement() bool { return slices.Contains(pgproxy.Kinds(), pgproxy.Kind(b.Verb)) }

// Blows is every kind of fault.
func Blows() []Blow {
	var all []Blow
	for _, p := range []Part{
		Mover, Router, Source, SourceWorker, SourcePostgres, SourceRedis,
		Target, TargetWorker, TargetPostgres, TargetRedis, Directory, DirectoryPostgres,
	} {
		all = append(all, Blow{Kill, p})
	}
	for _, p := range attacked() {
		all = append(all, Blow{KillBackend, p})
		for _, k := range pgproxy.Kinds() {
			all = append(all, Blow{Verb(k), p})
		}
	}
	slow := Verb(pgproxy.Slow)
	return append(all, Blow{Suspend, Mover}, Blow{Flood, SourcePostgres}, Blow{slow, SourceLink}, Blow{slow, TargetLink})
}

// attacked is the databases that have a proxy before them.
func attacked() []Part { return []Part{SourcePostgres, TargetPostgres, DirectoryPostgres} }

// anyMoment, as a phase, is no phase: the fault strikes after its delay.
const anyMoment directory.Phase = ""

// phases are those at which a fault may strike.
func phases() []directory.Phase {
	return []directory.Phase{
		directory.Planned, directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen,
		directory.Decided, directory.Activated, directory.Watching, directory.Aborting, anyMoment,
	}
}

// early is the phases in which a move has most of its work before it.
func early() []directory.Phase { return phases()[:6] }

// A Fault is one blow as it is drawn: against which move and when.
type Fault struct {
	Blow
	Tenant  int             `json:"tenant"`            // the blow is aimed at the move of this tenant
	Phase   directory.Phase `json:"phase,omitempty"`   // strike when the move is there; "" is any moment
	Delay   time.Duration   `json:"delay_ns"`          // and so long after
	Down    time.Duration   `json:"down_ns"`           // how long the process stays dead, the statement stalls, or the network is slow
	Nth     int             `json:"nth"`               // which statement from then on; which router
	Commits bool            `json:"commits,omitempty"` // of commits only
	Pace    pgproxy.Pace    `json:"pace,omitzero"`     // of a slow network
}

// An Errand is what a tenant's move of one round is, depending on where the last
// one left it.
type Errand struct {
	Undo   bool            `json:"undo"`             // where the last move watches: take it back, else complete it
	Cancel directory.Phase `json:"cancel,omitempty"` // cancel a new move or an undo when it is there; "" does not
}

// A Round is one move of each tenant, and what happens meanwhile.
type Round struct {
	Errands []Errand `json:"errands"` // by tenant
	Faults  []Fault  `json:"faults"`
}

// A plan draws rounds. The first ones hold every kind of fault once; those after
// hold every kind at every phase, again and again in another order.
type plan struct {
	rng     *rand.Rand
	tenants int
	faults  int // of a round
	deck    []aim
	begun   bool
}

type aim struct {
	blow  Blow
	phase directory.Phase
}

func newPlan(o Options) *plan {
	return &plan{rng: rand.New(rand.NewPCG(o.Seed, 0x63656c6c776179)), tenants: o.Tenants, faults: o.Faults}
}

// once is how many rounds it takes until every kind of fault was drawn.
func (o Options) once() int { return (len(Blows()) + o.Faults - 1) / o.Faults }

// next draws the next round.
func (p *plan) next() Round {
	r := Round{Errands: make([]Errand, p.tenants)}
	early := early()
	for i := range r.Errands {
		r.Errands[i].Undo = p.rng.IntN(2) == 0
		if p.rng.IntN(6) == 0 {
			r.Errands[i].Cancel = early[p.rng.IntN(len(early))]
		}
	}
	for range p.faults {
		f := p.fault()
		if f.Phase == directory.Aborting { // there is none without a cancel
			r.Errands[f.Tenant].Cancel = early[p.rng.IntN(len(early))]
		}
		r.Faults = append(r.Faults, f)
	}
	return r
}

func (p *plan) fault() Fault {
	a := p.deal()
	f := Fault{Blow: a.blow, Phase: a.phase, Tenant: p.rng.IntN(p.tenants), Nth: 1 + p.rng.IntN(3), Commits: p.rng.IntN(3) == 0}
	f.Delay = time.Duration(p.rng.Int64N(int64(3 * time.Millisecond)))
	if a.phase == anyMoment {
		f.Delay = time.Duration(p.rng.Int64N(int64(400 * time.Millisecond)))
	}
	f.Down = time.Duration(p.rng.Int64N(int64(400 * time.Millisecond)))
	switch f.Verb {
	case Verb(pgproxy.Stall):
		f.Down *= 4
	case Verb(pgproxy.Slow):
		f.Down *= 10
		f.Pace = p.pace()
	}
	return f
}

// pace is a slow network: of 1 to 256 ms, up to twice that now and then, and 16 KB to 2 MB a second.
func (p *plan) pace() pgproxy.Pace {
	latency := time.Millisecond << p.rng.IntN(9)
	return pgproxy.Pace{Latency: latency, Jitter: latency, Rate: 16_000 << p.rng.IntN(8), Seed: p.rng.Uint64()}
}

// deal takes the top of the deck.
func (p *plan) deal() aim {
	if len(p.deck) == 0 {
		p.shuffle()
	}
	top := p.deck[0]
	p.deck = p.deck[1:]
	return top
}

// shuffle makes a new deck.
func (p *plan) shuffle() {
	ph := phases()
	for i, b := range Blows() {
		if !p.begun { // the phases are dealt evenly too
			at := ph[(i+p.rng.IntN(2))%len(ph)]
			if b.breaksStatement() { // not so late that none follows
				at = early()[p.rng.IntN(len(early()))]
			}
			p.deck = append(p.deck, aim{b, at})
			continue
		}
		for _, at := range ph {
			p.deck = append(p.deck, aim{b, at})
		}
	}
	p.begun = true
	p.rng.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
}

// String tells a fault in a line of progress.
func (f Fault) String() string {
	at := "any moment"
	if f.Phase != anyMoment {
		at = string(f.Phase)
	}
	return fmt.Sprintf("%s at %s", f.Blow, at)
}

// Plan is the first n rounds that follow from the options' seed.
func Plan(o Options, n int) []Round {
	o, err := o.withDefaults()
	if err != nil {
		return nil
	}
	p := newPlan(o)
	rounds := make([]Round, n)
	for i := range rounds {
		rounds[i] = p.next()
	}
	return rounds
}
