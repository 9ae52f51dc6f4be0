package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// A listedMove says what can be done about it, as a single move does.
type listedMove struct {
	directory.Move
	NextSteps []string `json:"next_steps,omitempty"`
}

// A moveFilter picks moves; what is empty picks all.
type moveFilter struct {
	tenant, cell, from, to, kind string
	phases                       []string
	ended                        bool
	limit                        int
}

// phases are all that a move can be in.
var phases = append(slices.Clone(onward), directory.Aborting, directory.Aborted, directory.Undone)

// kinds are who asks for moves: a person by name, a plan, or whoever takes another one back.
var kinds = []string{"move", "plan", "undo"}

func moveKind(m directory.Move) string {
	switch {
	case m.Undoes != "":
		return "undo"
	case m.Planned:
		return "plan"
	}
	return "move"
}

func (a *app) moveList() *cobra.Command {
	var f moveFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List the moves, newest first", Args: names(),
		Example: "  cellctl move list --cell c1 --phase watching\n  cellctl move list --tenant acme --phase aborted,undone\n" +
			"  cellctl move list --from c1 --kind plan --phase planned --limit 0 -o name | cut -d/ -f2 | xargs -n1 cellctl move cancel --detach",
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			if err := f.check(ctx, d); err != nil {
				return err
			}
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
	flags.StringVar(&f.cell, "cell", "", "only those away from, or to, this cell")
	flags.StringVar(&f.from, "from", "", "only those away from this cell")
	flags.StringVar(&f.to, "to", "", "only those to this cell")
	flags.StringVar(&f.kind, "kind", "", "only those that were asked for by name (move), by a plan (plan), or that take another one back (undo)")
	flags.StringSliceVar(&f.phases, "phase", nil, "only those in this phase, or one of these; that of an end needs no --all")
	for _, name := range []string{"cell", "from", "to"} {
		_ = cmd.RegisterFlagCompletionFunc(name, a.completeCell)
	}
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenant)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("phase", cobra.FixedCompletions(texts(phases), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func texts(of []directory.Phase) []string {
	out := make([]string, len(of))
	for i, p := range of {
		out[i] = string(p)
	}
	return out
}

// check refuses what no move can have: a mistyped name would pick nothing, which reads as if
// there were nothing to do.
func (f *moveFilter) check(ctx context.Context, d api) error {
	for _, p := range f.phases {
		if !slices.Contains(phases, directory.Phase(p)) {
			return usage("one of "+strings.Join(texts(phases), ", "), "--phase: there is no phase %q", p)
		}
		f.ended = f.ended || directory.Phase(p).Ended()
	}
	if f.kind != "" && !slices.Contains(kinds, f.kind) {
		return usage("one of "+strings.Join(kinds, ", "), "--kind: there is no kind %q", f.kind)
	}
	if f.limit < 0 {
		return usage("0 is all", "--limit must not be negative")
	}
	return knownCells(ctx, d, f.cell, f.from, f.to)
}

// find reads page after page until there are enough moves; more reports whether limit cut
// them short.
func (f *moveFilter) find(ctx context.Context, d api) (moves []directory.Move, more bool, err error) {
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

func (f *moveFilter) picks(m directory.Move) bool {
	is := func(want string, got ...string) bool { return want == "" || slices.Contains(got, want) }
	from, to := string(m.Source), string(m.Target)
	return is(f.cell, from, to) && is(f.from, from) && is(f.to, to) && is(f.kind, moveKind(m)) &&
		(len(f.phases) == 0 || slices.Contains(f.phases, string(m.Phase)))
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
