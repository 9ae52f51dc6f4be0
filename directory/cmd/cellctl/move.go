package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// progress is what movers report of a move; see mover.Report.
type progress struct {
	Size      int64         `json:"size_bytes"`
	Rows      int64         `json:"rows"`
	Keys      int64         `json:"keys"`
	Bytes     int64         `json:"bytes"`
	Rounds    int           `json:"rounds"`
	LastRound time.Duration `json:"last_round_ns"`
	Pause     time.Duration `json:"pause_ns"`
}

func reported(m directory.Move) (p progress) {
	_ = json.Unmarshal(m.Report, &p) // a move that nobody has worked on has none
	return p
}

var moveView = view[directory.Move]{
	kind: "Move",
	name: func(m directory.Move) string { return "move/" + string(m.ID) },
	columns: []column[directory.Move]{
		{title: "name", text: func(m directory.Move, _ clock) string { return string(m.ID) }},
		{title: "tenant", text: func(m directory.Move, _ clock) string { return m.Tenant.String() }},
		{title: "from", text: func(m directory.Move, _ clock) string { return string(m.Source) }},
		{title: "to", text: func(m directory.Move, _ clock) string { return string(m.Target) }},
		{title: "phase", text: func(m directory.Move, _ clock) string { return string(m.Phase) }},
		{title: "rows", text: func(m directory.Move, _ clock) string { return number(reported(m).Rows) }},
		{title: "pause", text: func(m directory.Move, _ clock) string { return pause(m) }},
		{title: "age", text: func(m directory.Move, now clock) string { return age(now, m.Created) }},
		{title: "undoes", wide: true, text: func(m directory.Move, _ clock) string { return string(m.Undoes) }},
		{title: "mover", wide: true, text: func(m directory.Move, _ clock) string { return m.Holder }},
		{title: "error", text: func(m directory.Move, _ clock) string { return oneLine(m.Error) }},
	},
}

func pause(m directory.Move) string {
	if p := reported(m).Pause; p > 0 {
		return p.Round(100 * time.Microsecond).String()
	}
	return ""
}

func (a *app) moveCommand() *cobra.Command {
	return group(&cobra.Command{Use: "move", Aliases: []string{"moves"}, Short: "Moves: tenants that change their cell while in use"},
		a.moveCreate(), a.moveList(), a.moveStatus(), a.moveWatch(),
		a.moveWish("switch", "Let a move that waits, caught up, go on to its cutover", directory.Switch),
		a.moveWish("cancel", "Take back a move that is not decided yet", directory.Cancel),
		a.moveWish("complete", "End the watch of a move: its source's copy is purged, and there is no way back", directory.Complete),
		a.moveUndo())
}

// A wanted is how a move is asked for and followed.
type wanted struct {
	to     string
	hold   bool
	watch  time.Duration
	detach bool
}

func (w *wanted) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&w.hold, "hold", false, "wait, caught up, for cellctl move switch")
	f.DurationVar(&w.watch, "watch", directory.DefaultWatch, "how long the way back stays open")
	f.BoolVar(&w.detach, "detach", false, "do not wait for the move")
}

// ask records the move and, unless detached, follows it.
func (w *wanted) ask(ctx context.Context, a *app, d api, m directory.NewMove) error {
	m.Watch = w.watch
	if w.hold {
		m.StopAt = directory.CaughtUp
	}
	made, err := d.CreateMove(ctx, m)
	if err != nil {
		return err
	}
	if w.detach {
		return moveView.one(a, made, "cellctl move watch "+string(made.ID))
	}
	return a.follow(ctx, d, made)
}

func (a *app) tenantMove() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use: "move NAME", Short: "Move a tenant to another cell while it is in use", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Example: "  cellctl tenant move acme --to c2\n  cellctl tenant move acme --to c2 --hold\n  cellctl tenant move acme --to c2 --detach -o name",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			if w.to == "" {
				return usage("cellctl cell list shows the cells", "--to names no cell")
			}
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			return w.ask(ctx, a, d, directory.NewMove{Tenant: t.ID, Target: directory.CellID(w.to)})
		}),
	}
	cmd.Flags().StringVar(&w.to, "to", "", "cell to move it to")
	w.flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeCell)
	return cmd
}

func (a *app) moveCreate() *cobra.Command {
	cmd := a.tenantMove()
	cmd.Use, cmd.Short, cmd.Example = "create TENANT", "The same as cellctl tenant move", "  cellctl move create acme --to c2 --detach"
	return cmd
}

func (a *app) moveUndo() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use: "undo MOVE", Short: "Take a tenant back to where it came from; costs only what changed since", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := d.Move(ctx, directory.MoveID(args[0]))
			if err != nil {
				return err
			}
			return w.ask(ctx, a, d, directory.NewMove{Tenant: m.Tenant, Target: m.Source, Undoes: m.ID})
		}),
	}
	w.flags(cmd)
	return cmd
}

func (a *app) moveList() *cobra.Command {
	var ended bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the moves, newest first", Args: names(),
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			moves, err := d.ListMoves(ctx, 0, ended, "", limit)
			if err != nil {
				return err
			}
			return moveView.list(a, moves, nil)
		}),
	}
	cmd.Flags().BoolVar(&ended, "all", false, "also those that have ended")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, 1 to 1000")
	return cmd
}

func (a *app) moveStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status MOVE", Short: "Show one move", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := d.Move(ctx, directory.MoveID(args[0]))
			if err != nil {
				return err
			}
			return moveView.one(a, m, nextSteps(m)...)
		}),
	}
}

func (a *app) moveWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch MOVE", Short: "Follow a move until it watches, waits or has ended", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := d.Move(ctx, directory.MoveID(args[0]))
			if err != nil {
				return err
			}
			return a.follow(ctx, d, m)
		}),
	}
}

func (a *app) moveWish(verb, short string, wish directory.Wish) *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use: verb + " MOVE", Short: short, Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := d.AskMove(ctx, directory.MoveID(args[0]), wish)
			if err != nil {
				return err
			}
			if detach {
				return moveView.one(a, m, "cellctl move watch "+string(m.ID))
			}
			return a.follow(ctx, d, m)
		}),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for the move")
	return cmd
}

// nextSteps are the commands that a move allows now.
func nextSteps(m directory.Move) []string {
	id := string(m.ID)
	switch {
	case m.Phase == directory.Watching:
		return []string{"cellctl move undo " + id, "cellctl move complete " + id}
	case m.Phase == directory.CaughtUp && m.StopAt == directory.CaughtUp && m.Wish == directory.Proceed:
		return []string{"cellctl move switch " + id, "cellctl move cancel " + id}
	case !m.Phase.Ended():
		return []string{"cellctl move watch " + id}
	}
	return nil
}

// settled reports whether a move needs nobody's work until an operator says more.
func settled(m directory.Move) bool {
	switch m.Phase {
	case directory.Watching:
		return m.Wish != directory.Complete
	case directory.CaughtUp:
		return m.StopAt == directory.CaughtUp && m.Wish == directory.Proceed
	}
	return m.Phase.Ended()
}

// followEvery is how often a move that is followed is asked for.
const followEvery = 200 * time.Millisecond

// follow notes each phase until the move has settled, then shows it. What ends it
// early ends the following, not the move. An aborted move is a Conflict, unless
// it was cancelled.
func (a *app) follow(ctx context.Context, d api, m directory.Move) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	a.noteMove(m)
	for !settled(m) {
		select {
		case <-ctx.Done():
			a.note("the move goes on: cellctl move watch %s", m.ID)
			return ctx.Err()
		case <-tick.C:
		}
		now, err := d.Move(ctx, m.ID)
		if err != nil {
			return withHint(err, problem.Unavailable, "the move goes on: cellctl move watch %s", m.ID)
		}
		if now.Phase != m.Phase || reported(now).Rounds != reported(m).Rounds {
			a.noteMove(now)
		}
		m = now
	}
	if err := moveView.one(a, m, nextSteps(m)...); err != nil {
		return err
	}
	if m.Phase == directory.Aborted && m.Wish != directory.Cancel {
		return problem.New(problem.Conflict, "move %s was aborted: %s", m.ID, oneLine(m.Error))
	}
	return nil
}

// noteMove says on the side how far a move is.
func (a *app) noteMove(m directory.Move) {
	p := reported(m)
	text := fmt.Sprintf("%-9s  %d rows, %d keys, %d kB, %d rounds", m.Phase, p.Rows, p.Keys, p.Bytes>>10, p.Rounds)
	if p.Pause > 0 {
		text += ", pause " + pause(m)
	}
	a.note("%s", text)
}
