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
		{title: "undoes", wide: true, text: func(m directory.Move, _ clock) string { return string(m.Undoes) }},
		{title: "attempt", wide: true, text: func(m directory.Move, _ clock) string { return fmt.Sprintf("%d/%d", m.Attempt, m.Attempts) }},
		{title: "mover", wide: true, text: func(m directory.Move, _ clock) string { return m.Holder }},
		{title: "error", text: func(m directory.Move, _ clock) string { return oneLine(m.Error) }},
		dated("created", func(m directory.Move) time.Time { return m.Created }),
		dated("verified at", func(m directory.Move) time.Time { return reported(m).equalAt() }),
	},
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
		a.moveWish("complete", "End the watch of a move: its source's copy is purged, not compared (see verify), and there is no way back", directory.Complete),
		a.moveVerify(), a.moveUndo())
}

// A listedMove says what can be done about it, as a single move does.
type listedMove struct {
	directory.Move
	NextSteps []string `json:"next_steps,omitempty"`
}

// A moveFilter picks moves; what is empty picks all.
type moveFilter struct {
	tenant, from, to, phase string
	ended                   bool
	limit                   int
}

func (a *app) moveList() *cobra.Command {
	var f moveFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List the moves, newest first", Args: names(),
		Example: "  cellctl move list --from c1 --phase watching\n" +
			"  cellctl move list --from c1 --phase planned --limit 0 -o name | cut -d/ -f2 | xargs -n1 cellctl move cancel --detach",
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			moves, more, err := f.find(ctx, d)
			if err != nil {
				return err
			}
			if more {
				a.note("there are more than %d; --limit 0 shows all", f.limit)
			}
			if moveView.isDocument(a) {
				listed := []listedMove{}
				for _, m := range moves {
					listed = append(listed, listedMove{m, a.there(nextSteps(m, a.now())...)})
				}
				return a.document("MoveList", map[string]any{"items": listed, "more": more})
			}
			return moveView.list(a, moves, nil)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.ended, "all", false, "also those that have ended")
	flags.IntVar(&f.limit, "limit", 100, "at most so many; 0 is all")
	flags.StringVar(&f.tenant, "tenant", "", "only this tenant's")
	flags.StringVar(&f.from, "from", "", "only those away from this cell")
	flags.StringVar(&f.to, "to", "", "only those to this cell")
	flags.StringVar(&f.phase, "phase", "", "only those in this phase")
	return cmd
}

// find reads page after page until there are enough moves; more reports whether limit cut
// them short.
func (f moveFilter) find(ctx context.Context, d api) (moves []directory.Move, more bool, err error) {
	var tenant directory.TenantID
	if f.tenant != "" {
		t, err := findTenant(ctx, d, f.tenant)
		if err != nil {
			return nil, false, err
		}
		tenant = t.ID
	}
	err = eachMove(ctx, d, tenant, f.ended, func(m directory.Move) bool {
		switch {
		case !f.picks(m):
		case f.limit > 0 && len(moves) == f.limit:
			more = true
		default:
			moves = append(moves, m)
		}
		return !more
	})
	return moves, more, err
}

func (f moveFilter) picks(m directory.Move) bool {
	is := func(got, want string) bool { return want == "" || got == want }
	return is(string(m.Source), f.from) && is(string(m.Target), f.to) && is(string(m.Phase), f.phase)
}

// eachMove gives the moves of a tenant (0: of all), newest first, until more is false.
func eachMove(ctx context.Context, d api, tenant directory.TenantID, ended bool, more func(directory.Move) bool) error {
	before := directory.MoveID("")
	for {
		page, err := d.ListMoves(ctx, tenant, ended, before, pageSize)
		if err != nil {
			return err
		}
		for _, m := range page {
			if !more(m) {
				return nil
			}
		}
		if len(page) < pageSize {
			return nil
		}
		before = page[len(page)-1].ID
	}
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
			if err := notTwice(ctx, d, args[0], wish); err != nil {
				return err
			}
			m, err := d.AskMove(ctx, directory.MoveID(args[0]), wish)
			if err != nil {
				return moveHint(err, args[0])
			}
			if detach {
				return moveView.one(a, m, "cellctl move watch "+string(m.ID))
			}
			return a.followTo(ctx, d, m, verdict(wish))
		}),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for the move")
	return cmd
}

// notTwice refuses to complete a move that is completed: the directory takes that
// for a repetition, but a person means another move.
func notTwice(ctx context.Context, d api, id string, wish directory.Wish) error {
	if wish != directory.Complete {
		return nil
	}
	m, err := findMove(ctx, d, id)
	if err == nil && m.Phase == directory.Completed {
		return moveHint(problem.New(problem.Conflict, "move %s is completed already: its source's copy is gone", m.ID), "")
	}
	return err
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
