package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// A wanted is how a move is asked for and followed.
type wanted struct {
	to       string
	hold     bool
	watch    time.Duration
	attempts int
	detach   bool
	dryRun   bool
}

func (w *wanted) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&w.hold, "hold", false, "wait, caught up, for cellctl move switch")
	addWatch(cmd, &w.watch)
	f.IntVar(&w.attempts, "attempts", directory.DefaultAttempts, "how often it is tried while only a bound, such as the pause's, aborts it")
	f.BoolVar(&w.detach, "detach", false, "do not wait for the move")
	f.BoolVar(&w.dryRun, "dry-run", false, "only say what the move would do, what is against it and what it would cost")
}

func addWatch(cmd *cobra.Command, watch *time.Duration) {
	cmd.Flags().DurationVar(watch, "watch", directory.DefaultWatch, "how long the way back stays open; 0s leaves none")
}

// shortest is the watch that is over at once: none at all stands for the default.
const shortest = time.Microsecond

// ask records the move and, unless detached, follows it. helps adds to a refusal of the
// directory's what can be done about it.
func (w *wanted) ask(ctx context.Context, a *app, d api, m directory.NewMove, helps func(error) error) error {
	m.Watch, m.Attempts, m.DryRun = cmp.Or(w.watch, shortest), w.attempts, w.dryRun
	if w.hold {
		m.StopAt = directory.CaughtUp
	}
	made, err := a.create(ctx, d, m)
	switch {
	case err != nil:
		if ctx.Err() != nil && !w.dryRun {
			a.note("the move may be recorded all the same: cellctl move list")
		}
		return helps(moveHint(err, ""))
	case w.dryRun:
		return a.rehearse(ctx, d, made, command(m))
	case w.detach:
		return moveView.one(a, made, "cellctl move watch "+string(made.ID))
	}
	return a.follow(ctx, d, made)
}

// create asks for a move. A dry run waits, for as long as --timeout says, where too many others are open.
func (a *app) create(ctx context.Context, d api, m directory.NewMove) (directory.Move, error) {
	began := a.now()
	for {
		made, err := d.CreateMove(ctx, m)
		e, ok := errors.AsType[*problem.Error](err)
		if !m.DryRun || !ok || e.Kind != problem.RateLimited {
			return made, err
		}
		wait := max(e.RetryAfter, followEvery)
		if a.now().Add(wait).Sub(began) > a.flags.timeout {
			return made, hinted{err, "movers work them off, and none is begun ten minutes after it was asked for: try again, or give it more --timeout"}
		}
		if !run.Pause(ctx, wait) {
			return made, ctx.Err()
		}
		a.requestID.Store(nil) // who asks again has no error
	}
}

// command is how a move is asked for.
func command(m directory.NewMove) string {
	text := fmt.Sprintf("cellctl tenant move %d --to %s", m.Tenant, m.Target)
	if m.Undoes != "" {
		text = "cellctl move undo " + string(m.Undoes)
	}
	if m.StopAt == directory.CaughtUp {
		text += " --hold"
	}
	if m.Watch == shortest {
		m.Watch = 0
	}
	if m.Watch != directory.DefaultWatch {
		text += " --watch=" + m.Watch.String()
	}
	if m.Attempts != directory.DefaultAttempts {
		text += fmt.Sprintf(" --attempts=%d", m.Attempts)
	}
	return text
}

// dryMoveView shows a move that is not recorded.
var dryMoveView = view[directory.Move]{
	kind: "DryRun",
	name: func(m directory.Move) string { return "tenant/" + m.Tenant.String() },
	columns: []column[directory.Move]{
		{title: "tenant", text: func(m directory.Move, _ clock) string { return m.Tenant.String() }},
		{title: "from", text: func(m directory.Move, _ clock) string { return string(m.Source) }},
		{title: "to", text: func(m directory.Move, _ clock) string { return string(m.Target) }},
		{title: "epoch", text: func(m directory.Move, _ clock) string { return epoch(m.Base + 1) }},
		{title: "watch", text: func(m directory.Move, _ clock) string { return m.Watch.String() }},
	},
}

func (a *app) tenantMove() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use: "move NAME --to CELL", Short: "Move a tenant to another cell while it is in use", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Long: "Moves a tenant and follows the move until it watches: the tenant is served by its\nnew cell, and the way back is open. Ctrl-C ends the following, not the move.",
		Example: "  cellctl tenant move acme --to c2\n  cellctl tenant move acme --to c2 --dry-run\n  cellctl tenant move acme --to c2 --hold\n" +
			"  cellctl tenant move acme --to c2 --detach -o name",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			if w.to == "" {
				return usage("cellctl cell list shows the cells", "--to names no cell")
			}
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			c, err := aliveTarget(ctx, d, w.to)
			if err != nil {
				return err
			}
			return w.ask(ctx, a, d, directory.NewMove{Tenant: t.ID, Target: c.ID}, func(err error) error { return targetHint(err, t, c) })
		}),
	}
	cmd.Flags().StringVar(&w.to, "to", "", "cell to move it to")
	w.flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeCell)
	return cmd
}

// aliveTarget refuses a cell that is not there or that nobody has heard of: the
// move would wait for it.
func aliveTarget(ctx context.Context, d api, name string) (directory.Cell, error) {
	c, err := d.Cell(ctx, directory.CellID(name))
	switch {
	case err != nil:
		return c, cellHint(ctx, d, name, err)
	case !c.Healthy && c.State != directory.Retired:
		e := problem.New(problem.CellUnavailable, "cell %s has never been heard of", c.ID)
		if !c.SeenAt.IsZero() {
			e = problem.New(problem.CellUnavailable, "nobody has heard of cell %s since %s", c.ID, c.SeenAt.Format(time.RFC3339))
		}
		return c, hinted{e, "start it, or choose another: cellctl cell list"}
	}
	return c, nil
}

func (a *app) moveCreate() *cobra.Command {
	cmd := a.tenantMove()
	cmd.Use, cmd.Short, cmd.Example = "create TENANT --to CELL", "The same as cellctl tenant move", "  cellctl move create acme --to c2 --detach"
	return cmd
}

func (a *app) moveUndo() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use: "undo MOVE", Short: "Take a tenant back to where it came from; costs only what changed since", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := findMove(ctx, d, args[0])
			if err != nil {
				return err
			}
			if m.Phase == directory.Undone {
				return problem.New(problem.Conflict, "move %s was undone by move %s", m.ID, m.UndoneBy)
			}
			return w.ask(ctx, a, d, directory.NewMove{Tenant: m.Tenant, Target: m.Source, Undoes: m.ID},
				func(err error) error { return a.undoHint(ctx, d, m, err) })
		}),
	}
	w.flags(cmd)
	return cmd
}
