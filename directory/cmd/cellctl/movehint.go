package main

import (
	"context"
	"errors"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// moveHint names the move that is in the way, or says where the moves are listed, or how far
// the move called name is.
func moveHint(err error, name string) error {
	if e, ok := errors.AsType[*problem.Error](err); ok && e.Kind == problem.Conflict && e.Extra["move"] != "" {
		return hinted{err, "cellctl move status " + e.Extra["move"]}
	}
	if name == "" {
		return err
	}
	err = withHint(err, problem.NotFound, "cellctl move list --all shows the moves")
	return withHint(err, problem.Conflict, "cellctl move status %s tells how far it is, and what can be done", name)
}

// knowsMore reports whether err needs no other hint of what to do about the directory's refusal.
func knowsMore(err error) bool {
	e, ok := errors.AsType[hinted](err)
	return ok && e.hint != "" || !errors.Is(err, problem.Conflict) && !errors.Is(err, problem.NotFound)
}

// targetHint says what helps where the directory does not let t move to c.
func targetHint(err error, t directory.Tenant, c directory.Cell) error {
	switch {
	case knowsMore(err):
		return err
	case errors.Is(err, problem.NotFound):
		return withHint(err, problem.NotFound, "cellctl cell list shows the cells")
	case t.Placement.State == directory.Suspended:
		return withHint(err, problem.Conflict, "%s", resumeFirst(t))
	case t.Placement.Cell == c.ID:
		return withHint(err, problem.Conflict, "choose another: cellctl cell list shows the cells")
	case c.State == directory.Cordoned:
		return withHint(err, problem.Conflict, "cellctl cell uncordon %s lets it take tenants again; cellctl cell list shows the others", c.ID)
	}
	return withHint(err, problem.Conflict, "choose one that is ready, has room and is of the tenant's locality and tier: cellctl cell list")
}

// resumeFirst is what helps a suspended tenant.
func resumeFirst(t directory.Tenant) string {
	return "cellctl tenant resume " + t.Slug + " lets it move; suspended while it moves, it arrives suspended"
}

// undoHint says what helps where the directory does not let m be undone.
func (a *app) undoHint(ctx context.Context, d api, m directory.Move, err error) error {
	if knowsMore(err) {
		return err
	}
	if c, cellErr := d.Cell(ctx, m.Source); cellErr == nil && c.State == directory.Drained {
		return withHint(err, problem.Conflict, "a drained cell takes nobody back until it is cordoned: cellctl cell cordon %s", c.ID)
	}
	if m.WatchOver(a.now()) && (m.Phase == directory.Watching || m.Phase.Ended()) {
		return withHint(err, problem.Conflict, "its way back is closed; a move of its own copies everything: cellctl tenant move %d --to %s", m.Tenant, m.Source)
	}
	if t, tenantErr := d.Tenant(ctx, m.Tenant.String()); tenantErr == nil && t.Placement.State == directory.Suspended {
		return withHint(err, problem.Conflict, "%s", resumeFirst(t))
	}
	return moveHint(err, string(m.ID))
}

// wishHint says of a move that waits, caught up, and must not be switched that it waits on, and of one whose
// copies were just found to differ what to do about it.
func wishHint(ctx context.Context, d api, id directory.MoveID, wish directory.Wish, err error) error {
	if wish != directory.Switch && wish != directory.CompleteSame || !errors.Is(err, problem.Conflict) {
		return err
	}
	m, moveErr := d.Move(ctx, id)
	switch {
	case moveErr != nil:
	case wish == directory.CompleteSame && m.Phase == directory.Watching && len(reported(m).Comparison.Differ) > 0:
		return withHint(err, problem.Conflict, "%s", keptHint(id))
	case wish == directory.Switch && m.Phase == directory.CaughtUp && m.Wish != directory.Cancel:
		return withHint(err, problem.Conflict, "it waits on, caught up: mend that and switch it again, or cellctl move cancel %s", id)
	}
	return err
}

// keptHint is what to do about a move whose copies differ.
func keptHint(id directory.MoveID) string {
	return "find out which side is damaged, then cellctl move undo " + string(id) + ", or the same command again"
}

// abortedHint is where to look for what is against a move that was aborted: nowhere, where a
// bound or an operator has ended it.
func abortedHint(m directory.Move) string {
	if m.Transient || m.Wish == directory.Cancel {
		return ""
	}
	again := command(directory.NewMove{Tenant: m.Tenant, Target: m.Target, Undoes: m.Undoes, Watch: directory.DefaultWatch, Attempts: directory.DefaultAttempts})
	return "the tenant is where it was; " + again + " --dry-run tells all that is against it"
}
