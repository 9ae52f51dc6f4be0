package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// progress is what movers report of a move; see mover.Report.
type progress struct {
	Size      int64         `json:"size_bytes"`
	AtLeast   bool          `json:"size_at_least"`
	Rows      int64         `json:"rows"`
	Keys      int64         `json:"keys"`
	Bytes     int64         `json:"bytes"`
	Rounds    int           `json:"rounds"`
	LastRound time.Duration `json:"last_round_ns"`
	Pause     time.Duration `json:"pause_ns"`
	Verified  time.Time     `json:"verified_at"`
	Whole     bool          `json:"whole"`

	Compared   time.Time `json:"compared_at"`
	Comparison compared  `json:"comparison"`

	Coming coming `json:"coming"`
}

// coming is what has come, so far, of a round that is under way; see transfer.Coming.
type coming struct {
	Rows  int64         `json:"rows"`
	Bytes int64         `json:"bytes"`
	Began time.Time     `json:"began_at"` // another one is another round; zero where nothing is told
	For   time.Duration `json:"for_ns"`
}

// rows and bytes are what has come in all rounds.
func (p progress) rows() int64  { return p.Rows + p.Coming.Rows }
func (p progress) bytes() int64 { return p.Bytes + p.Coming.Bytes }

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
		{title: "rows", text: func(m directory.Move, _ clock) string { return number(reported(m).rows()) }},
		{title: "pause", text: func(m directory.Move, _ clock) string { return pause(reported(m).Pause) }},
		{title: "verified", text: func(m directory.Move, now clock) string { return verified(now, reported(m)) }},
		{title: "age", text: func(m directory.Move, now clock) string { return age(now, m.Created) }},
		{title: "wish", text: func(m directory.Move, _ clock) string { return wished(m) }},
		{title: "undoes", wide: true, text: func(m directory.Move, _ clock) string { return string(m.Undoes) }},
		{title: "kind", wide: true, text: func(m directory.Move, _ clock) string { return moveKind(m) }},
		{title: "attempt", wide: true, text: func(m directory.Move, _ clock) string { return fmt.Sprintf("%d/%d", m.Attempt, m.Attempts) }},
		{title: "mover", wide: true, text: func(m directory.Move, _ clock) string { return m.Holder }},
		{title: "error", text: func(m directory.Move, _ clock) string { return oneLine(m.Error) }},
		dated("created", func(m directory.Move) time.Time { return m.Created }),
		dated("verified at", func(m directory.Move) time.Time { return reported(m).equalAt() }),
		dated("watch ends", func(m directory.Move) time.Time { return m.WatchEnds }),
	},
}

// wished is what somebody wants of a move that is not done yet: its wish, or an undo. The record
// keeps a wish also when it is fulfilled.
func wished(m directory.Move) string {
	switch {
	case m.Phase.Ended():
		return ""
	case m.UndoneBy != "":
		return "undo"
	case m.Wish == directory.Switch && !m.Phase.BeforeDecision():
		return ""
	}
	return string(m.Wish)
}

// staleAfter is how old the proof that both copies are equal may become.
const staleAfter = 24 * time.Hour

// equalAt is when both copies were last known to be equal, by the rounds' hashes or by a
// comparison since; not at all where one has found damage.
func (p progress) equalAt() time.Time {
	switch {
	case len(p.Comparison.Differ) > 0:
		return time.Time{}
	case p.Comparison.Failed == "" && p.Compared.After(p.Verified):
		return p.Compared
	}
	return p.Verified
}

// verified says how long both copies are known to be equal, and whether that is long ago.
func verified(now time.Time, p progress) string {
	at := p.equalAt()
	switch {
	case len(p.Comparison.Differ) > 0:
		return "DIFFERS"
	case now.Sub(at) > staleAfter && !at.IsZero():
		return "stale, " + age(now, at)
	}
	return age(now, at)
}

func pause(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.Round(100 * time.Microsecond).String()
}

func (a *app) moveCommand() *cobra.Command {
	return group(&cobra.Command{Use: "move", Aliases: []string{"moves"}, Short: "Moves: tenants that change their cell while in use"},
		a.moveCreate(), a.moveList(), a.moveStatus(), a.moveWatch(),
		a.moveWish("switch", "Let a move that waits, caught up, go on to its cutover", directory.Switch),
		a.moveWish("cancel", "Take back a move that is not decided yet", directory.Cancel),
		a.moveComplete(), a.moveVerify(), a.moveUndo())
}

func (a *app) moveStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status MOVE", Short: "Show one move, and when it reached each phase", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := findMove(ctx, d, args[0])
			if err != nil {
				return err
			}
			return a.showMove(ctx, d, m)
		}),
	}
}

func (a *app) moveWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch MOVE", Short: "Follow a move until it watches, waits or has ended", Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := findMove(ctx, d, args[0])
			if err != nil {
				return err
			}
			return a.followTo(ctx, d, m, watched)
		}),
	}
}

func (a *app) moveWish(verb, short string, wish directory.Wish) *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use: verb + " MOVE", Short: short, Args: names("MOVE"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			return a.wish(ctx, d, directory.MoveID(args[0]), wish, detach)
		}),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for the move")
	return cmd
}

// wish asks for what a move is to do next and, unless detached, follows it.
func (a *app) wish(ctx context.Context, d api, id directory.MoveID, wish directory.Wish, detach bool) error {
	m, err := d.AskMove(ctx, id, wish)
	switch {
	case err != nil:
		return wishHint(ctx, d, id, wish, moveHint(err, string(id)))
	case detach:
		return moveView.one(a, m, "cellctl move watch "+string(m.ID))
	}
	return a.followTo(ctx, d, m, verdict(wish))
}

func findMove(ctx context.Context, d api, id string) (directory.Move, error) {
	m, err := d.Move(ctx, directory.MoveID(id))
	return m, moveHint(err, id)
}

// showMove shows a move with its history.
func (a *app) showMove(ctx context.Context, d api, m directory.Move) error {
	lines, err := d.Audit(ctx, directory.MoveSubject(m.ID), 0, pageSize)
	if err != nil {
		return err
	}
	history, next := directory.History(lines), a.there(nextSteps(m, a.now())...)
	if history == nil {
		history = []directory.Reached{} // null would break every reader's loop
	}
	if moveView.isDocument(a) {
		return a.document(moveView.kind, m, map[string]any{"history": history, "next_steps": next})
	}
	moveView.rows(a, []directory.Move{m})
	if a.flags.output == "name" {
		return nil
	}
	a.noteHistory(history)
	for _, step := range next {
		a.note("next: %s", step)
	}
	return nil
}

// noteHistory says on the side how long each phase took to reach.
func (a *app) noteHistory(history []directory.Reached) {
	for i, h := range history {
		if i == 0 {
			a.note("%s  %-9s", h.At.Format(time.RFC3339), h.Phase)
			continue
		}
		a.note("%s  %-9s  after %s", h.At.Format(time.RFC3339), h.Phase, h.At.Sub(history[i-1].At).Round(time.Millisecond))
	}
}
