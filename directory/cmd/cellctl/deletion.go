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

var deletionView = view[directory.Deletion]{
	kind: "Deletion",
	name: func(d directory.Deletion) string { return "tenant/" + d.Tenant.String() },
	columns: []column[directory.Deletion]{
		{title: "id", text: func(d directory.Deletion, _ clock) string { return d.Tenant.String() }},
		{title: "name", text: func(d directory.Deletion, _ clock) string { return d.Slug }},
		{title: "epoch", text: func(d directory.Deletion, _ clock) string { return epoch(d.Epoch) }},
		{title: "deleted", text: func(d directory.Deletion, now clock) string { return age(now, d.DeletedAt) }},
		{title: "purge", text: func(d directory.Deletion, _ clock) string {
			if d.Due {
				return "now"
			}
			return d.PurgeAt.UTC().Format(time.RFC3339)
		}},
		{title: "cells", text: func(d directory.Deletion, _ clock) string { return joinCells(d.Cells) }},
		dated("deleted at", func(d directory.Deletion) time.Time { return d.DeletedAt }),
	},
}

func joinCells(cells []directory.CellID) string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = string(c)
	}
	return strings.Join(out, ",")
}

func (a *app) tenantDeleted() *cobra.Command {
	var cell string
	cmd := &cobra.Command{
		Use: "deleted", Short: "List the deleted tenants that cells have yet to purge", Args: names(),
		Long:    "Shows when each one's grace ends and which cells have something of it still. One\nthat is purged is in the audit: cellctl audit list --subject tenant/ID.",
		Example: "  cellctl tenant deleted\n  cellctl tenant deleted --cell c1 -o json",
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			if err := knownCells(ctx, d, cell); err != nil {
				return err
			}
			list, err := listDeletions(ctx, d, directory.CellID(cell))
			if err != nil {
				return err
			}
			return deletionView.list(a, list, nil)
		}),
	}
	cmd.Flags().StringVar(&cell, "cell", "", "only what waits for this cell")
	_ = cmd.RegisterFlagCompletionFunc("cell", a.completeCell)
	return cmd
}

func listDeletions(ctx context.Context, d api, cell directory.CellID) (list []directory.Deletion, err error) {
	for after := directory.TenantID(0); ; {
		page, err := d.ListDeletions(ctx, cell, after, pageSize)
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
		if len(page) < pageSize {
			return list, nil
		}
		after = page[len(page)-1].Tenant
	}
}

func (a *app) tenantPurge() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "purge ID", Short: "End the grace of a deleted tenant: its cells purge it now", Args: names("ID"),
		Long:    "Takes the id, or the name where only one deleted tenant waits that had it. Cells\nthat do not answer purge when they hear of it.",
		Example: "  cellctl tenant deleted\n  cellctl tenant purge 17",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			gone, err := findDeletion(ctx, d, args[0])
			if err != nil {
				return err
			}
			consequence := fmt.Sprintf("What %s kept of %s cannot be had back.", plural(gone.Cells), gone.Slug)
			if err := a.confirm(ctx, yes, "tenant", gone.Tenant.String(), consequence); err != nil {
				return err
			}
			if err := d.HurryDeletion(ctx, gone.Tenant); err != nil {
				return err
			}
			return a.done(deletionView.name(gone), "to be purged now")
		}),
	}
	addYes(cmd, &yes)
	return cmd
}

func plural(cells []directory.CellID) string {
	if len(cells) == 1 {
		return "cell " + string(cells[0])
	}
	return "cells " + joinCells(cells)
}

// findDeletion is the one that waits for a cell, by the tenant's id or by its name.
func findDeletion(ctx context.Context, d api, ref string) (directory.Deletion, error) {
	list, err := listDeletions(ctx, d, "")
	if err != nil {
		return directory.Deletion{}, err
	}
	var found []directory.Deletion
	for _, gone := range list {
		switch ref {
		case gone.Tenant.String():
			return gone, nil
		case gone.Slug:
			found = append(found, gone)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return directory.Deletion{}, hinted{problem.New(problem.NotFound, "no cell has anything of a deleted tenant %q", ref), "cellctl tenant deleted shows those that wait"}
	}
	return directory.Deletion{}, usage("cellctl tenant deleted shows their ids", "%d deleted tenants were called %q: name one by its id", len(found), ref)
}
