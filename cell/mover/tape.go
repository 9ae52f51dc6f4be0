package mover

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// A tape is a rehearsal under way: the record of its move, which is here only, and what
// was noted so far.
type tape struct {
	mu     sync.Mutex
	move   directory.Move
	found  Rehearsed
	left   int           // steps before it belong to phases that are recorded
	rounds int           // that the target would have taken
	frozen chan struct{} // closed when the source would be frozen
	freeze func()        // closes it
}

func newTape(r directory.Rehearsal) *tape {
	m := r.Move
	m.ID, m.Lease, m.Report = directory.MoveID(r.ID), 1, nil
	frozen := make(chan struct{})
	return &tape{
		move: m, frozen: frozen, freeze: sync.OnceFunc(func() { close(frozen) }),
		found: Rehearsed{Steps: []Step{}, Findings: []Found{}, Whole: true},
	}
}

// note notes a step. The same one again, because the one before it failed, is noted once.
func (t *tape) note(c directory.CellID, step string, asked bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Step{Cell: c, Step: step, Does: short(fmt.Sprintf(format, args...), longestStep), Asked: asked}
	if n := len(t.found.Steps); n > t.left && t.found.Steps[n-1] == s {
		return
	}
	t.found.Steps = append(t.found.Steps, s)
}

// much is how much the tenant has.
func (r Rehearsed) much() string {
	text := fmt.Sprintf("%d rows, %d bytes", r.Rows, r.Bytes)
	switch {
	case r.Unsized:
		return fmt.Sprintf("rows that are not counted within %v", measureTime)
	case r.AtLeast:
		return "at least " + text
	}
	return text
}

// preflight notes what a cell said of itself, and of the tenant where it was asked to measure it. unsized: that
// took too long.
func (t *tape) preflight(c directory.CellID, r transfer.Report, measured, unsized bool) {
	says := "nothing against the move"
	if n := len(r.Findings); n > 0 {
		says = fmt.Sprintf("findings against the move: %d", n)
	}
	t.mu.Lock()
	if measured {
		t.found.Rows, t.found.Bytes, t.found.AtLeast, t.found.Unsized = r.Rows, r.Bytes, r.AtLeast, unsized
		if len(r.Findings) == 0 {
			says += "; the tenant has " + t.found.much()
		}
	}
	for _, f := range r.Findings {
		t.find(Found{c, f.Code, f.Table, f.Why, f.Fix})
	}
	t.mu.Unlock()
	t.note(c, "preflight", true, "%s", says)
}

// short cuts a text, which may be a cell's, to what a report has room for.
func short(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

// find keeps a finding, once.
func (t *tape) find(f Found) {
	for _, old := range t.found.Findings {
		if old == f {
			return
		}
	}
	if len(t.found.Findings) == mostFound {
		t.found.More++
		return
	}
	t.found.Findings = append(t.found.Findings, f)
}

// record notes that a phase is reached, and which steps led there.
func (t *tape) record(m directory.Move) {
	does := "record " + string(m.Phase)
	switch p, gives := m.Gives(); {
	case m.Phase == directory.Aborting:
		does = fmt.Sprintf("decide against the move: %s stays the owner, at epoch %d", p.Cell, p.Epoch)
	case gives:
		does = fmt.Sprintf("decide: the tenant is %s's, at epoch %d", p.Cell, p.Epoch)
	}
	t.note("", "record", false, "%s", does)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends(m.Phase)
}

// ends gives the steps since the phase before to this one.
func (t *tape) ends(p directory.Phase) {
	for i := t.left; i < len(t.found.Steps); i++ {
		t.found.Steps[i].Phase = p
	}
	t.left = len(t.found.Steps)
}

// late notes that a rehearsal took too long, and with what.
func (t *tape) late() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.move.Phase == directory.Watching || t.move.Phase == directory.Aborted || t.move.Error != "" {
		return
	}
	what := "the directory"
	if n := len(t.found.Steps); n > 0 {
		s := t.found.Steps[n-1]
		what = s.Step
		if s.Cell != "" {
			what += " of " + string(s.Cell)
		}
	}
	t.move.Error = fmt.Sprintf("%s takes longer than %v", what, rehearsalTime)
}

// report is what was found.
func (t *tape) report() Rehearsed {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found.Reaches, t.found.Error = t.move.Phase, short(t.move.Error, longestWhy)
	t.ends(t.move.Phase) // a phase that it would not leave
	return t.found
}

// A dryRecord is the executor's directory in a rehearsal: the move is recorded on the tape,
// by the directory's own rules, and everything else is read from the directory.
type dryRecord struct {
	tape *tape
	real Record
}

func (d dryRecord) Cell(ctx context.Context, id directory.CellID) (directory.Cell, error) {
	return d.real.Cell(ctx, id)
}

// Move is the move on the tape; its operator, whom it would wait for, lets it go on.
func (d dryRecord) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	t := d.tape
	t.mu.Lock()
	m := t.move
	t.mu.Unlock()
	if id != m.ID {
		return d.real.Move(ctx, id)
	}
	if m.Phase == directory.CaughtUp && held(m) {
		t.note("", "wait", false, "wait for cellctl move switch, with a round every %v", idleRound)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.move.Wish = directory.Switch
		m = t.move
	}
	return m, nil
}

// LeaseMove gives a lease that nobody else wants.
func (d dryRecord) LeaseMove(ctx context.Context, id directory.MoveID, _ string, _ time.Duration) (directory.Move, error) {
	return d.Move(ctx, id)
}

// RestMove ends the rehearsal: the move would wait.
func (d dryRecord) RestMove(_ context.Context, m directory.Move, _ time.Duration) error {
	d.tape.note("", "wait", false, "wait, and try again: %s", m.Error)
	d.tape.mu.Lock()
	defer d.tape.mu.Unlock()
	d.tape.move.Error = m.Error
	return nil
}

func (d dryRecord) Advance(_ context.Context, m directory.Move, from directory.Phase) error {
	t := d.tape
	t.mu.Lock()
	next, news, err := t.move.Advanced(m, from, time.Now())
	moved := err == nil && news && next.Phase != from
	if err == nil {
		t.move = next
	}
	t.mu.Unlock()
	if moved {
		t.record(next)
	}
	return err
}
