package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// A location is where a tenant's requests are served.
type location struct {
	Tenant  directory.TenantID `json:"tenant"`
	Slug    string             `json:"slug"`
	Cell    directory.CellID   `json:"cell"`
	Epoch   directory.Epoch    `json:"epoch"`
	State   directory.State    `json:"state"`
	Address string             `json:"address"` // of the cell
	Healthy bool               `json:"healthy"` // the cell
}

var locationView = view[location]{
	kind: "Location",
	name: func(l location) string { return "cell/" + string(l.Cell) },
	columns: []column[location]{
		{title: "tenant", text: func(l location, _ clock) string { return l.Slug }},
		{title: "cell", text: func(l location, _ clock) string { return string(l.Cell) }},
		{title: "epoch", text: func(l location, _ clock) string { return epoch(l.Epoch) }},
		{title: "state", text: func(l location, _ clock) string { return string(l.State) }},
		{title: "healthy", text: func(l location, _ clock) string { return yesNo(l.Healthy) }},
		{title: "address", text: func(l location, _ clock) string { return l.Address }},
	},
}

func (a *app) tenantWhere() *cobra.Command {
	return &cobra.Command{
		Use: "where NAME", Short: "Show which cell owns a tenant", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Example: "  cellctl tenant where acme\n  cellctl cell get $(cellctl tenant where acme -o name | cut -d/ -f2)",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			c, err := d.Cell(ctx, t.Placement.Cell)
			if err != nil {
				return err
			}
			p := t.Placement
			return locationView.one(a, location{t.ID, t.Slug, p.Cell, p.Epoch, p.State, c.Address, c.Healthy})
		}),
	}
}
