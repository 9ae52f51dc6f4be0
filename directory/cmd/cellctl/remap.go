package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
	"github.com/cellway/cellway/infra/problem"
)

// A remap is a command that gives tenants other cells: what it plans, and for what.
type remap struct {
	verb, subject string
	plan          func(planner.State, planner.Options) (planner.Plan, error)
	leaves        func(directory.Cell) bool // cells that are to be empty; nil: none
	adopts        func(directory.Move) bool // moves under way that belong to it; all others are counted only
	strict        bool                      // a tenant that stays is a failure
	byLoad        bool                      // measured requests fill cells, as tenants do
}

// remapFlags are what an operator says about it.
type remapFlags struct {
	yes, dryRun, detach, complete bool
	confirm                       int
	watch, budget                 time.Duration
	spread                        float64
	moves                         int
}

const remapHelp = `

Without --yes the plan is shown and nothing is done. With it every move of the
plan is recorded at once, and the movers work on them, the oldest first. Ctrl-C
(or --detach) ends the watching, not the moves; the same command goes on where
things are: it follows what is under way and plans what is left.

Requests of tenants are known where their cells have measured them within the last
minutes, sizes of tenants that one of the newest thousand moves was of. Tenants of a group come to
different cells, and nobody waits longer within a day than its --pause-budget: see
cellctl tenant set.`

// command makes the cobra command of a remap. of says what is meant by the arguments.
func (a *app) remapCommand(cmd *cobra.Command, f *remapFlags, of func(ctx context.Context, d api, args []string) (remap, error)) *cobra.Command {
	cmd.Long += remapHelp
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.yes && f.dryRun {
			return usage("a dry run does nothing: leave --yes out", "--yes and --dry-run contradict each other")
		}
		if f.watch < 0 || f.watch > directory.LongestWatch || f.confirm < 0 || cmd.Flags().Changed("max-pause") && f.budget < 0 {
			return usage("--watch is 0 to 90 days, --max-pause and --confirm are 0 or more", "a time or a number is out of range")
		}
		d, err := a.directory()
		if err != nil {
			return err
		}
		r, err := of(cmd.Context(), d, args)
		if err != nil {
			return err
		}
		j := &job{app: a, api: d, remap: r, opts: f, again: a.there(again(cmd, args))[0]}
		return j.run(cmd.Context())
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.yes, "yes", "y", false, "carry the plan out")
	flags.IntVar(&f.confirm, "confirm", 0, "the number of moves, where the plan is so large that it has to be said")
	flags.BoolVar(&f.dryRun, "dry-run", false, "ask the directory and the cells about each move of the plan; nothing is recorded")
	flags.BoolVar(&f.detach, "detach", false, "do not wait for the moves")
	flags.DurationVar(&f.budget, "max-pause", planner.Unlimited, "leave tenants alone whose forecast pause is longer")
	flags.Lookup("max-pause").DefValue = "any"
	addWatch(cmd, &f.watch)
	return cmd
}

// again is the command line that repeats what was asked, but for whether it is done.
func again(cmd *cobra.Command, args []string) string {
	parts := append([]string{cmd.CommandPath()}, args...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		global := cmd.InheritedFlags().Lookup(f.Name) != nil
		if !global && !slices.Contains([]string{"yes", "confirm", "dry-run", "detach"}, f.Name) {
			parts = append(parts, "--"+f.Name+"="+word(f.Value.String()))
		}
	})
	return strings.Join(parts, " ")
}

// word is text as one word of a shell.
func word(text string) string {
	if !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || strings.ContainsRune("'\"\\`$&|;<>()*?[]#~!{}", c) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (a *app) cellDrain() *cobra.Command {
	var f remapFlags
	cmd := &cobra.Command{
		Use: "drain NAME", Short: "Move every tenant off a cell", Args: names("NAME"), ValidArgsFunction: a.completeCell,
		Long: `Moves every tenant off a cell. The cell is draining, and gets no new tenants, from
the beginning, and drained when the last has left. Ways back stay open for --watch:
until then the cell keeps the rows and cannot be removed, and to take a tenant back
it has to be cordoned first. --complete closes them, where both copies are the same.`,
		Example: "  cellctl cell drain c1\n  cellctl cell drain c1 --yes --confirm 14\n  cellctl cell drain c1 --yes --complete && cellctl cell remove c1 --yes",
	}
	addComplete(cmd, &f)
	return a.remapCommand(cmd, &f, func(ctx context.Context, d api, args []string) (remap, error) {
		id := directory.CellID(args[0])
		c, err := d.Cell(ctx, id)
		if err == nil && c.State == directory.Retired {
			err = problem.New(problem.Conflict, "cell %s is retired", id)
		}
		return remap{
			verb: "drain", subject: "cell/" + args[0], strict: true,
			plan:   func(s planner.State, o planner.Options) (planner.Plan, error) { return planner.Drain(s, id, o) },
			leaves: func(c directory.Cell) bool { return c.ID == id },
			adopts: func(m directory.Move) bool { return m.Source == id },
		}, cellHint(ctx, d, args[0], err)
	})
}

func (a *app) cellEvacuate() *cobra.Command {
	var f remapFlags
	var locality string
	cmd := &cobra.Command{
		Use: "evacuate --locality NAME", Short: "Move every tenant out of a locality", Args: names(),
		Long: `Moves every tenant off all cells of a locality, as cellctl cell drain does off one.
Tenants whose data may be nowhere else stay, and their cells stay draining.`,
		Example: "  cellctl cell evacuate --locality eu\n  cellctl cell evacuate --locality eu --yes --confirm 120 --detach",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "locality") },
	}
	cmd.Flags().StringVar(&locality, "locality", "", "the locality to leave")
	addComplete(cmd, &f)
	return a.remapCommand(cmd, &f, func(ctx context.Context, d api, _ []string) (remap, error) {
		cells, err := d.ListCells(ctx)
		there := map[directory.CellID]bool{}
		for _, c := range cells {
			there[c.ID] = c.Locality == locality
		}
		return remap{
			verb: "evacuate", subject: "locality/" + locality, strict: true,
			plan: func(s planner.State, o planner.Options) (planner.Plan, error) {
				p, err := planner.Evacuate(s, locality, o)
				return p, withHint(err, problem.NotFound, "cellctl cell list shows each cell's locality")
			},
			leaves: func(c directory.Cell) bool { return c.Locality == locality && c.State != directory.Provisioning },
			adopts: func(m directory.Move) bool { return there[m.Source] && !there[m.Target] },
		}, err
	})
}

func addComplete(cmd *cobra.Command, f *remapFlags) {
	cmd.Flags().BoolVar(&f.complete, "complete", false, "leave no way back: the rows there are compared and purged at once, and the cell can be removed")
}

func (a *app) cellRebalance() *cobra.Command {
	var f remapFlags
	cmd := &cobra.Command{
		Use: "rebalance", Short: "Even out how full the cells are", Args: names(),
		Long: `Moves tenants from the fullest cells to the emptiest, by number of tenants and, where
all of them have measured it, by requests, as shares of their capacities, among
all cells that are ready and healthy. Who has moved within a day is left alone.`,
		Example: "  cellctl cell rebalance\n  cellctl cell rebalance --max-moves 50 --yes",
	}
	o := planner.Default()
	cmd.Flags().Float64Var(&f.spread, "spread", o.Spread, "stop when the fullest and the emptiest cell differ by no more than this share")
	cmd.Flags().IntVar(&f.moves, "max-moves", 0, "plan no more moves; 0 is no limit")
	return a.remapCommand(cmd, &f, func(ctx context.Context, d api, _ []string) (remap, error) {
		cells, err := d.ListCells(ctx)
		ready := map[directory.CellID]bool{}
		for _, c := range cells {
			ready[c.ID] = c.State.TakesTenants()
		}
		return remap{
			verb: "rebalance", subject: "all cells", byLoad: true,
			plan: planner.Rebalance,
			// What an operator has asked for by name is no plan's, and other plans' moves
			// leave cells that are left, or go to those for quarantine.
			adopts: func(m directory.Move) bool { return m.Planned && ready[m.Source] && ready[m.Target] },
		}, err
	})
}

func (a *app) tenantQuarantine() *cobra.Command {
	var f remapFlags
	cmd := &cobra.Command{
		Use: "quarantine NAME", Short: "Move a tenant to a cell that is for quarantine", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Long: `Moves a tenant to the quarantine cell that has the fewest tenants, so that what it
does to its cell it does to nobody else. cellctl cell quarantine makes such a cell.`,
		Example: "  cellctl cell quarantine q1\n  cellctl tenant quarantine acme --yes",
	}
	return a.remapCommand(cmd, &f, func(ctx context.Context, d api, args []string) (remap, error) {
		t, err := findTenant(ctx, d, args[0])
		if err != nil {
			return remap{}, err
		}
		cells, err := d.ListCells(ctx)
		isolated := map[directory.CellID]bool{}
		for _, c := range cells {
			isolated[c.ID] = c.State == directory.Quarantine
		}
		return remap{
			verb: "quarantine", subject: "tenant/" + t.Slug, strict: true,
			plan:   func(s planner.State, o planner.Options) (planner.Plan, error) { return planner.Quarantine(s, t.ID, o) },
			adopts: func(m directory.Move) bool { return m.Tenant == t.ID && isolated[m.Target] },
		}, err
	})
}

// options are what a plan of f is made with.
func (f *remapFlags) options(now time.Time) planner.Options {
	o := planner.Default()
	o.Now = now
	o.Spread, o.MaxMoves = f.spread, f.moves
	return o
}

// confirmed refuses a plan that is larger than its operator has said.
func (f *remapFlags) confirmed(p plan) error {
	switch {
	case p.Confirm > 0 && f.confirm != p.Confirm:
		e := problem.New(problem.Forbidden, "%d of %d tenants (%s) would change their cell, more than %s: nothing was moved",
			len(p.Moves), p.Tenants, percent(p.Share), percent(planner.Default().MaxShare))
		return hinted{e, fmt.Sprintf("look at the plan; if it is what you want, add --confirm %d", p.Confirm)}
	case f.confirm > 0 && f.confirm < len(p.Moves):
		e := problem.New(problem.Forbidden, "the plan has %d moves, and %d are confirmed: nothing was moved", len(p.Moves), f.confirm)
		return hinted{e, "look at the plan again: the fleet has changed"}
	}
	return nil
}
