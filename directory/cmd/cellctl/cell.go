package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var cellView = view[directory.Cell]{
	kind: "Cell",
	name: func(c directory.Cell) string { return "cell/" + string(c.ID) },
	columns: []column[directory.Cell]{
		{title: "name", text: func(c directory.Cell, _ clock) string { return string(c.ID) }},
		{title: "state", text: func(c directory.Cell, _ clock) string { return string(c.State) }},
		{title: "healthy", text: func(c directory.Cell, _ clock) string { return yesNo(c.Healthy) }},
		{title: "tenants", text: func(c directory.Cell, _ clock) string { return strconv.Itoa(c.Tenants) }},
		{title: "capacity", text: func(c directory.Cell, _ clock) string { return strconv.Itoa(c.Capacity) }},
		{title: "locality", text: func(c directory.Cell, _ clock) string { return c.Locality }},
		{title: "tier", text: func(c directory.Cell, _ clock) string { return c.Tier }},
		{title: "seen", text: func(c directory.Cell, now clock) string { return age(now, c.SeenAt) }},
		{title: "address", wide: true, text: func(c directory.Cell, _ clock) string { return c.Address }},
		{title: "admin", wide: true, text: func(c directory.Cell, _ clock) string { return c.Admin }},
		{title: "incarnation", wide: true, text: func(c directory.Cell, _ clock) string { return c.Incarnation }},
		dated("seen at", func(c directory.Cell) time.Time { return c.SeenAt }),
	},
}

func (a *app) cellCommand() *cobra.Command {
	return group(&cobra.Command{Use: "cell", Aliases: []string{"cells"}, Short: "Cells: the copies of the stack that own tenants"},
		a.cellList(), a.cellGet(), a.cellAdd(), a.cellRemove(),
		a.cellState("cordon", "Give a cell no new tenants", directory.Cordoned),
		a.cellState("uncordon", "Give a cell new tenants again", directory.Ready),
		a.cellState("quarantine", "Keep a cell for tenants that are sent there by name", directory.Quarantine),
		a.cellDrain(), a.cellRebalance(), a.cellEvacuate())
}

func (a *app) cellList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the cells", Args: names(), Example: "  cellctl cell list\n  cellctl cell list -o wide",
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			cells, err := d.ListCells(ctx)
			if err != nil {
				return err
			}
			return cellView.list(a, cells, nil)
		}),
	}
}

func (a *app) cellGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show one cell", Args: names("NAME"), ValidArgsFunction: a.completeCell,
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			c, err := d.Cell(ctx, directory.CellID(args[0]))
			if err != nil {
				return cellHint(ctx, d, args[0], err)
			}
			return cellView.one(a, c)
		}),
	}
}

func (a *app) cellAdd() *cobra.Command {
	var c directory.Cell
	var state string
	cmd := &cobra.Command{
		Use: "add NAME --address URL", Short: "Register a cell, or change where it is", Args: names("NAME"),
		Long:    "Registers a cell; of one that is known it changes what is named, but the state. A cell does this itself when it starts; by hand it is for cells\nthat are to be known, or cordoned, before they run. A ready one is chosen for new\ntenants once the directory has heard of the cell itself; before that they come by\nname only (cellctl tenant create --cell).",
		Example: "  cellctl cell add c4 --address http://10.0.4.7:7100 --locality eu --state cordoned",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "address") },
	}
	cmd.RunE = a.asks(func(ctx context.Context, d api, args []string) error {
		c.ID, c.State = directory.CellID(args[0]), directory.CellState(state)
		switch known, err := d.Cell(ctx, c.ID); {
		case err == nil && c.State != "" && c.State != known.State:
			return hinted{
				problem.New(problem.Conflict, "cell %s is known, and %s", c.ID, known.State),
				"its state is changed by cellctl cell cordon|uncordon|quarantine " + args[0],
			}
		case err == nil:
			keepCell(&c, known, cmd.Flags().Changed)
		case problem.KindOf(err) != problem.NotFound:
			return err
		}
		added, err := d.AddCell(ctx, c)
		if err != nil {
			return withHint(err, problem.Conflict, "a cell that has run says itself where it is, by its own settings; in its place: --incarnation, as cellctl cell list -o wide shows it")
		}
		var next []string
		if added.Address != c.Address {
			a.note("cell %s stays at %s, to which it was rolled out: a roll-out takes it to %s", added.ID, added.Address, c.Address)
			next = []string{"cellctl rollout create --file FILE --why TEXT"}
		}
		return cellView.one(a, added, next...)
	})
	f := cmd.Flags()
	f.StringVar(&c.Address, "address", "", "base URL of its tenant listener")
	f.StringVar(&c.Admin, "admin", "", "base URL of its admin listener")
	f.StringVar(&c.Locality, "locality", "", "where its data is")
	f.StringVar(&c.Tier, "tier", "", "which class of tenants it serves")
	f.IntVar(&c.Capacity, "capacity", 1000, "tenants that it is sized for")
	f.StringVar(&c.Incarnation, "incarnation", "", "identity of its database's contents; with it the cell counts as heard of")
	f.StringVar(&state, "state", "", "state it starts in (default ready)")
	return cmd
}

// keepCell gives c what is known of it where nobody has named it. Who it is, and what state
// it is in, are the record's.
func keepCell(c *directory.Cell, known directory.Cell, named func(flag string) bool) {
	for flag, keep := range map[string]func(){
		"admin": func() { c.Admin = known.Admin }, "locality": func() { c.Locality = known.Locality },
		"tier": func() { c.Tier = known.Tier }, "capacity": func() { c.Capacity = known.Capacity },
	} {
		if !named(flag) {
			keep()
		}
	}
}

func (a *app) cellState(verb, short string, to directory.CellState) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: names("NAME"), ValidArgsFunction: a.completeCell,
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			c, err := d.SetCellState(ctx, directory.CellID(args[0]), to)
			if err != nil {
				err = withHint(err, problem.Conflict, "cellctl cell get %s shows its state; one that is retired does not come back: add another, by a new name", args[0])
				return cellHint(ctx, d, args[0], err)
			}
			return cellView.one(a, c)
		}),
	}
}

func (a *app) cellRemove() *cobra.Command {
	var yes, lost bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Retire an empty cell", Args: names("NAME"), ValidArgsFunction: a.completeCell,
		Long:    "Retires a cell that owns no tenant. Its name may not come back with another database.\nMoves that need the cell keep it, unless it is lost: then those to it are cancelled,\nand those from it go on, without a way back and with nothing to purge.",
		Example: "  cellctl cell remove c1\n  cellctl cell remove c1 --lost   # its database is gone for good",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			id := directory.CellID(args[0])
			c, err := d.Cell(ctx, id)
			if err != nil {
				return cellHint(ctx, d, args[0], err)
			}
			warning := "Routers forget it at once."
			if lost {
				warning += " What it kept of tenants that were moved away is given up, and with it the way back."
			}
			if err := a.confirm(ctx, yes, "cell", args[0], warning); err != nil {
				return err
			}
			if err := d.RemoveCell(ctx, id, lost); err != nil {
				if e, ok := errors.AsType[*problem.Error](err); ok && e.Extra["move"] != "" {
					if lost {
						return hinted{err, "cellctl move list shows when it has ended; then the same command again"}
					}
					return hinted{err, "cellctl cell drain " + args[0] + " --yes --complete closes the ways back to it; cellctl move list shows the moves; --lost does without a cell whose database is gone for good"}
				}
				if lost && c.Tenants > 0 {
					return withHint(err, problem.Conflict, "they are lost with it unless its database is restored, or a standby promoted; cellctl tenant list --cell %s shows them", id)
				}
				if c.State == directory.Ready || c.State == directory.Quarantine {
					return withHint(err, problem.Conflict, "cordon it first (cellctl cell cordon %s); cellctl tenant list --cell %[1]s shows who is still there", id)
				}
				return withHint(err, problem.Conflict, "cellctl tenant list --cell %s shows who is still there; cellctl cell drain %[1]s --yes moves them", id)
			}
			c.State = directory.Retired
			return a.done(cellView.name(c), "removed")
		}),
	}
	cmd.Flags().BoolVar(&lost, "lost", false, "its database is gone for good: moves go on without it")
	addYes(cmd, &yes)
	return cmd
}

// cellHint looks for a cell that may have been meant.
func cellHint(ctx context.Context, d api, name string, err error) error {
	return nearby(err, name, "cellctl cell list shows the cells", func() ([]string, error) {
		cells, err := d.ListCells(ctx)
		return ids(cells), err
	})
}

// knownCells refuses names of cells that there are not, of which a list has nothing: that reads
// as if there were nothing to show. A retired one is known.
func knownCells(ctx context.Context, d api, names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		if _, err := d.Cell(ctx, directory.CellID(name)); err != nil {
			return cellHint(ctx, d, name, err)
		}
	}
	return nil
}

func ids(cells []directory.Cell) []string {
	var out []string
	for _, c := range cells {
		out = append(out, string(c.ID))
	}
	return out
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
