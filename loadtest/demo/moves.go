package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// A MoveAct is what tenants that changed cell while they worked noticed of it.
type MoveAct struct {
	What    string           `json:"what"` // "moved", "taken back", "drained"
	From    directory.CellID `json:"from"`
	To      directory.CellID `json:"to,omitempty"` // "" where they went to several cells
	Tenants int              `json:"tenants"`
	loadtest.Watch
	Pause    loadtest.Millis `json:"longest_pause_ms"`  // from the freeze at the source until a cell served again, of all attempts
	Attempts int             `json:"attempts"`          // moves made, with those that a bound aborted and that were tried again
	Aborted  []string        `json:"aborted,omitempty"` // why, of each of those
	Rows     int64           `json:"rows_verified"`     // stored at the target and compared by hash
	Keys     int64           `json:"keys_followed"`     // changed during the move
	Took     loadtest.Millis `json:"took_ms"`
	Lost     int64           `json:"lost"`    // acknowledged writes and events of these tenants, counted at the end
	Doubled  int64           `json:"doubled"` // the same

	moved []directory.TenantID
}

// followed is how the mover tells of its work, mover.Report.
type followed struct {
	Rows  int64         `json:"rows"`
	Keys  int64         `json:"keys"`
	Pause time.Duration `json:"pause_ns"`
}

// observe plays one act under the eyes of the tenants that it is about, until one of them
// has asked for something after it: an undo may be over between two requests.
func (r *run) observe(ctx context.Context, act *MoveAct, play func() error) error {
	watch, done := r.rec.Watch(act.moved...)
	began := time.Now()
	err := play()
	act.Took = loadtest.Millis(time.Since(began))
	if asked := r.rec.Requests(watch); err == nil && len(act.moved) > 0 {
		err = loadtest.Until(ctx, "a request after it", 5*time.Millisecond, func(context.Context) (bool, error) {
			return r.rec.Requests(watch) > asked, nil
		})
	}
	done()
	act.Watch, act.Tenants = *watch, len(act.moved)
	r.report.Moves = append(r.report.Moves, act)
	return err
}

// moveAndUndo moves one tenant to another cell while it works, and takes it back.
func (r *run) moveAndUndo(ctx context.Context) error {
	t := r.tenants[0]
	there := &MoveAct{What: "moved", From: t.Cell(), To: r.added, moved: []directory.TenantID{t.ID}}
	var m directory.Move
	err := r.observe(ctx, there, func() (err error) {
		m, err = r.move(ctx, there, directory.NewMove{Tenant: t.ID, Target: r.added})
		return err
	})
	if err != nil {
		return err
	}
	r.say("moved %s from %s to %s, %d rows, pause %s; taking it back", t.Slug, there.From, there.To, there.Rows, there.Pause)
	if !loadtest.Pause(ctx, calm) {
		return context.Cause(ctx)
	}
	back := &MoveAct{What: "taken back", From: r.added, To: t.Cell(), moved: there.moved}
	err = r.observe(ctx, back, func() (err error) {
		m, err = r.move(ctx, back, directory.NewMove{Tenant: t.ID, Target: back.To, Undoes: m.ID})
		return err
	})
	if err != nil {
		return err
	}
	return r.complete(ctx, m.ID)
}

// complete gives up the way back of a move, and waits until the copy that was
// kept for it is gone: until then the tenant stays where it is.
func (r *run) complete(ctx context.Context, id directory.MoveID) error {
	if err := r.console.Wish(ctx, id, directory.Complete); err != nil {
		return err
	}
	return loadtest.Until(ctx, "move "+string(id)+" to be completed", 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		m, err := r.console.Move(ctx, id)
		return m.Phase == directory.Completed, err
	})
}

// move asks for a move and follows it, through the attempts that it takes, until
// the target serves the tenant.
func (r *run) move(ctx context.Context, act *MoveAct, n directory.NewMove) (directory.Move, error) {
	var m directory.Move
	if err := r.console.Call(ctx, http.MethodPost, "/v1/moves", n, &m); err != nil {
		return m, err
	}
	id := m.ID
	err := loadtest.Until(ctx, "the move of tenant "+fmt.Sprint(n.Tenant), 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		var err error
		m, err = r.console.Move(ctx, id)
		switch {
		case err != nil:
			return false, err
		case m.RetriedBy != "":
			id = m.RetriedBy
		case m.Phase == directory.Aborted:
			return false, fmt.Errorf("move %s was aborted: %s", m.ID, m.Error)
		}
		return m.RetriedBy == "" && (m.Phase == directory.Watching || m.Phase.Ended()), nil
	})
	if err == nil {
		err = r.sum(ctx, act, m)
	}
	return m, err
}

// sum adds what movers tell of a move, and of the attempts before it.
func (r *run) sum(ctx context.Context, act *MoveAct, m directory.Move) (err error) {
	act.arrived(m)
	for m.Retries != "" {
		if m, err = r.console.Move(ctx, m.Retries); err != nil {
			return err
		}
		act.aborted(m)
	}
	return nil
}

func (a *MoveAct) arrived(m directory.Move) {
	var f followed
	_ = json.Unmarshal(m.Report, &f) // nothing is told where nothing was reported
	a.Rows, a.Keys, a.Attempts = a.Rows+f.Rows, a.Keys+f.Keys, a.Attempts+m.Attempt
	a.Pause = max(a.Pause, loadtest.Millis(f.Pause))
}

// aborted adds an attempt that a bound ended: its tenant may have waited all the same.
func (a *MoveAct) aborted(m directory.Move) {
	var f followed
	_ = json.Unmarshal(m.Report, &f)
	a.Pause = max(a.Pause, loadtest.Millis(f.Pause))
	a.Aborted = append(a.Aborted, m.Error)
}

// drainCell moves every tenant off one cell, as an operator does.
func (r *run) drainCell(ctx context.Context) error {
	from := directory.CellID(r.stack.State().Cells[0].ID)
	act := &MoveAct{What: "drained", From: from}
	var on struct {
		Items []directory.Tenant `json:"items"`
	}
	if err := r.console.Call(ctx, http.MethodGet, "/v1/tenants?limit=1000&cell="+string(from), nil, &on); err != nil {
		return err
	}
	for _, t := range on.Items {
		act.moved = append(act.moved, t.ID)
	}
	drain := []string{"cell", "drain", string(from), "--yes", "--confirm", fmt.Sprint(len(act.moved))}
	if err := r.observe(ctx, act, func() error { return r.cellctl(ctx, drain...) }); err != nil {
		return err
	}
	for _, t := range act.moved {
		var list struct {
			Items []directory.Move `json:"items"`
		}
		if err := r.console.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/moves?tenant=%d&ended=true&limit=1", t), nil, &list); err != nil {
			return err
		}
		for _, m := range list.Items {
			if err := r.sum(ctx, act, m); err != nil {
				return err
			}
		}
	}
	if err := r.console.Call(ctx, http.MethodGet, "/v1/tenants?limit=1000&cell="+string(from), nil, &on); err != nil {
		return err
	}
	r.left = len(on.Items)
	r.say("drained %s of %d tenants, %d rows, longest pause %s", from, act.Tenants, act.Rows, act.Pause)
	return nil
}

// cellctl runs the operators' command.
func (r *run) cellctl(ctx context.Context, args ...string) error {
	st := r.stack.State()
	cmd := exec.CommandContext(ctx, filepath.Join(r.o.BinDir, "cellctl"), args...)
	cmd.Env = append(os.Environ(), "CELLCTL_ADDR="+st.Directory.URL, "CELLCTL_TOKEN="+st.OperatorToken)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cellctl %v: %w: %s", args, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// judgeMoves holds that nobody noticed, and that everything is there.
func (r *run) judgeMoves() {
	for _, act := range r.report.Moves {
		for _, id := range act.moved {
			act.Lost, act.Doubled = act.Lost+r.lost[id], act.Doubled+r.doubled[id]
		}
		name, gone := "a tenant moves while it works", true
		switch act.What {
		case "taken back":
			name = "a move can be taken back"
		case "drained":
			name, gone = "a cell is drained while its tenants work", r.left == 0 && act.Tenants > 0
		}
		r.report.promise(name, gone && act.Failed == 0 && act.Requests > 0 && act.Lost == 0 && act.Doubled == 0 && act.Rows > 0,
			"%s; %d of %d requests failed, longest pause %s, %d rows verified, %d lost, %d doubled",
			act.route(), act.Failed, act.Requests, act.Pause, act.Rows, act.Lost, act.Doubled)
	}
}

// route says who went where.
func (a *MoveAct) route() string {
	if a.To == "" {
		return fmt.Sprintf("%d tenants left %s", a.Tenants, a.From)
	}
	return fmt.Sprintf("%s to %s", a.From, a.To)
}
