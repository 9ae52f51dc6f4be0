package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A purge is what the completion of a move takes away, as far as the record tells.
type purge struct {
	Move     directory.MoveID `json:"-"`
	Tenant   string           `json:"tenant"`                  // its name
	Cell     directory.CellID `json:"cell"`                    // whose copy goes
	Keeps    directory.CellID `json:"keeps"`                   // the cell that has the only one then
	Size     int64            `json:"size_bytes,omitempty"`    // of the tenant when the move began; 0 is not known
	AtLeast  bool             `json:"size_at_least,omitempty"` // it was not counted to its end
	Verified time.Time        `json:"verified_at,omitzero"`    // when both copies were last known to be equal
	Differ   []string         `json:"differ,omitempty"`        // tables in which they are not
	Ends     time.Time        `json:"watch_ends,omitzero"`     // when it goes by itself; zero where it waits for its operator
}

var purgeView = view[purge]{
	kind: "Purge", name: func(p purge) string { return "move/" + string(p.Move) },
	columns: []column[purge]{
		{title: "tenant", text: func(p purge, _ clock) string { return p.Tenant }},
		{title: "purged at", text: func(p purge, _ clock) string { return string(p.Cell) }},
		{title: "stays at", text: func(p purge, _ clock) string { return string(p.Keeps) }},
		{title: "size", text: func(p purge, _ clock) string { return p.size() }},
		{title: "same", text: func(p purge, now clock) string {
			if len(p.Differ) > 0 {
				return "DIFFERS"
			}
			return age(now, p.Verified)
		}},
		{title: "watch ends", text: func(p purge, _ clock) string {
			if p.Ends.IsZero() {
				return ""
			}
			return p.Ends.UTC().Format(time.RFC3339)
		}},
	},
}

func (p purge) size() string {
	switch {
	case p.Size == 0:
		return ""
	case p.AtLeast:
		return "at least " + size(p.Size)
	}
	return size(p.Size)
}

// copies says what is known of both copies at now.
func (p purge) copies(now time.Time) string {
	switch {
	case len(p.Differ) > 0:
		return "The copies differ in " + strings.Join(p.Differ, ", ") + ", and which side is damaged is for you to find out."
	case p.Verified.IsZero():
		return "Whether both copies are the same is not known: cellctl move verify " + string(p.Move) + " tells."
	}
	return "Both copies were the same " + age(now, p.Verified) + " ago."
}

// purgeOf is what goes when m is completed.
func purgeOf(ctx context.Context, d api, m directory.Move) (purge, error) {
	r := reported(m)
	p := purge{
		Move: m.ID, Tenant: m.Tenant.String(), Cell: m.Source, Keeps: m.Target, Size: r.Size, AtLeast: r.AtLeast,
		Verified: r.equalAt(), Differ: r.Comparison.Differ, Ends: m.WatchEnds,
	}
	t, err := d.Tenant(ctx, m.Tenant.String())
	if err == nil {
		p.Tenant = t.Slug
	}
	return p, err
}

func (a *app) moveComplete() *cobra.Command {
	var yes, detach, dryRun bool
	cmd := &cobra.Command{
		Use: "complete MOVE", Short: "End the watch of a move: its source's copy is purged, and there is no way back", Args: names("MOVE"),
		Long: "Ends the watch of a move. The copy that its source kept is purged, for good, and is not\n" +
			"compared before: cellctl move verify does that. So it asks for the tenant's name, unless\n--yes says that nobody is to be asked. " +
			"Copies that are found to differ meanwhile stay.",
		Example: "  cellctl move complete mv_01k9 --dry-run\n  cellctl move complete mv_01k9\n  cellctl move complete mv_01k9 --yes --detach",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			if yes && dryRun {
				return usage("a dry run does nothing: leave --yes out", "--yes and --dry-run contradict each other")
			}
			m, err := findMove(ctx, d, args[0])
			if err != nil {
				return err
			}
			if err := completable(m, a.now()); err != nil {
				return err
			}
			switch {
			case dryRun:
				return a.dryComplete(ctx, d, m)
			case !yes && m.Wish != directory.Complete: // what was asked for already is only followed
				p, err := purgeOf(ctx, d, m)
				if err != nil {
					return err
				}
				consequence := fmt.Sprintf("Cell %s has the only one then, and there is no way back. %s", p.Keeps, p.copies(a.now()))
				if err := a.confirm(ctx, yes, fmt.Sprintf("the copy that cell %s kept of tenant", p.Cell), p.Tenant, consequence); err != nil {
					return err
				}
			}
			wish := directory.CompleteSame // what is found meanwhile, nobody has been told
			if len(reported(m).Comparison.Differ) > 0 {
				wish = directory.Complete
			}
			return a.wish(ctx, d, m.ID, wish, detach)
		}),
	}
	addYes(cmd, &yes)
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for the move")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be purged")
	return cmd
}

// completable refuses what the directory would refuse, before anybody is asked, and to complete
// a move that is completed: the directory takes that for a repetition, but a person means another move.
func completable(m directory.Move, now time.Time) error {
	if m.Phase == directory.Completed {
		return hinted{
			problem.New(problem.Conflict, "move %s is completed already: its source's copy is gone", m.ID),
			"cellctl move list --phase watching shows the moves whose source keeps one",
		}
	}
	_, err := m.Ask(directory.Complete, now)
	return moveHint(err, string(m.ID))
}

// dryComplete shows what the completion of m would purge.
func (a *app) dryComplete(ctx context.Context, d api, m directory.Move) error {
	p, err := purgeOf(ctx, d, m)
	if err != nil {
		return err
	}
	next := a.there("cellctl move complete " + string(m.ID) + " --yes")
	if len(p.Differ) > 0 || p.Verified.IsZero() {
		next = a.there("cellctl move verify " + string(m.ID))
	}
	if purgeView.isDocument(a) {
		return a.document("DryRun", m, map[string]any{"purges": p, "next_steps": next})
	}
	if err := purgeView.list(a, []purge{p}, nil); err != nil || a.flags.output == "name" {
		return err
	}
	a.note("%s", p.copies(a.now()))
	a.note("nothing has changed: this is what the record tells")
	for _, step := range next {
		a.note("next: %s", step)
	}
	return nil
}
