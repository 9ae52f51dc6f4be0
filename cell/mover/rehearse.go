package mover

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Rehearsed is what a rehearsal found: what the move would do, as things are now.
type Rehearsed struct {
	Steps    []Step          `json:"steps"`    // in their order
	Findings []Found         `json:"findings"` // what the cells have against it, each with its fix
	More     int             `json:"more_findings,omitempty"`
	Rows     int64           `json:"rows"`               // of the tenant, by preflight
	Bytes    int64           `json:"size_bytes"`         // of those rows, as they are stored
	AtLeast  bool            `json:"at_least,omitempty"` // there may be more of both: large tables are not counted to their end
	Unsized  bool            `json:"unsized,omitempty"`  // the source did not measure the tenant in time
	Whole    bool            `json:"whole"`              // everything is copied; an undo's may cost what changed since only
	Reaches  directory.Phase `json:"reaches"`            // Watching, Aborted, or the phase in which it would wait
	Error    string          `json:"error,omitempty"`    // why it would be aborted, or wait
}

// A Step is one step of a move, as a rehearsal met it.
type Step struct {
	Phase directory.Phase  `json:"phase"`          // that is recorded when it is done
	Cell  directory.CellID `json:"cell,omitempty"` // that is asked; none is the directory
	Step  string           `json:"step"`
	Does  string           `json:"does"`  // for people
	Asked bool             `json:"asked"` // the cell was asked, because that changes nothing; all else was only noted
}

// Found is what a cell has against a move.
type Found struct {
	Cell  directory.CellID `json:"cell"`
	Code  string           `json:"code"`
	Table string           `json:"table,omitempty"`
	Why   string           `json:"why"`
	Fix   string           `json:"fix"`
}

// Bounds of a report, which has to fit the record: of its findings, of what a step does, of why the move would end, and of all.
const (
	mostFound   = 40
	longestStep = 500
	longestWhy  = 2 << 10
	largest     = 30 << 10
)

// text is the report as it is recorded. Findings with long names may be too many for it.
func (r Rehearsed) text() json.RawMessage {
	for {
		text, _ := json.Marshal(r) // plain numbers and texts: it cannot fail
		n := len(r.Findings)
		if len(text) <= largest || n == 0 {
			return text
		}
		r.Findings, r.More = r.Findings[:n/2], r.More+n-n/2
	}
}

// rehearsePoll is how often a mover that has nothing to rehearse looks: somebody waits for the answer.
const rehearsePoll = 500 * time.Millisecond

// RehearsedMost is how many rehearsals a mover has side by side: more would only wait at a cell,
// which measures one tenant at a time for them.
const RehearsedMost = 2

// Bounds of one rehearsal: somebody waits for it, and others behind it.
const (
	measureTime   = 30 * time.Second // to measure the tenant
	rehearsalTime = time.Minute
)

// runRehearsals rehearses what the directory asks for, until ctx ends. They have places of
// their own: no move waits for one.
func (v *Mover) runRehearsals(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, RehearsedMost)
	for take(ctx, places) {
		began := time.Now()
		r, err := v.leaseRehearsal(ctx, "")
		if err == nil {
			wg.Go(func() {
				defer func() { <-places }()
				v.workOnRehearsal(ctx, r, began)
			})
			continue
		}
		<-places
		if !errors.Is(err, problem.NotFound) && ctx.Err() == nil { // one of an older release has none
			v.log.WarnContext(ctx, "look for rehearsals", "error", err)
		}
		if !v.sleep(ctx, max(v.cfg.Poll, rehearsePoll)) {
			return
		}
	}
}

func (v *Mover) leaseRehearsal(ctx context.Context, id directory.RehearsalID) (directory.Rehearsal, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.LeaseTTL*2/3)
	defer cancel()
	return v.tries.LeaseRehearsal(ctx, id, v.cfg.ID, v.cfg.LeaseTTL)
}

// workOnRehearsal rehearses a move under its lease, which was asked for at leased, and reports.
func (v *Mover) workOnRehearsal(ctx context.Context, r directory.Rehearsal, leased time.Time) {
	ctx, cancel := context.WithTimeout(ctx, directory.RehearsalTTL) // nobody waits for longer
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		v.keep(ctx, cancel, leased, func(ctx context.Context) error {
			_, err := v.leaseRehearsal(ctx, r.ID)
			return err
		})
	})
	found := v.rehearse(ctx, r)
	if ctx.Err() != nil {
		return
	}
	r.Report = found.text()
	telling, done := context.WithTimeout(ctx, stepTimeout)
	defer done()
	err := v.tries.EndRehearsal(telling, r)
	v.log.InfoContext(ctx, "rehearsal", "rehearsal", r.ID, "tenant", r.Move.Tenant, "reaches", found.Reaches, "error", err)
}

// rehearse takes a move as far as it would go: by the same loop and the same [Next] as one
// that is made, over the executors that change nothing. What rehearsals know of silent cells
// they share: the next one need not find out anew.
func (v *Mover) rehearse(ctx context.Context, r directory.Rehearsal) Rehearsed {
	t := newTape(r)
	dry := New(Config{ID: v.cfg.ID, Parallel: 1, LeaseTTL: v.cfg.LeaseTTL, Poll: time.Millisecond, Limits: v.cfg.Limits},
		nil, func(c directory.Cell) Cell { return dryCell{t, c.ID, v.open(c)} }, slog.New(slog.DiscardHandler))
	dry.dir, dry.silent, dry.misses = dryRecord{t, v.dir}, v.unheard, attendMisses
	w := &work{Mover: dry, move: t.move, taking: ctx, slotted: take(ctx, dry.slots), log: dry.log}
	bound, cancel := context.WithTimeout(ctx, rehearsalTime)
	defer cancel()
	w.run(bound)
	if bound.Err() != nil {
		t.late()
	}
	return t.report()
}
