package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// pageSize is how many tenants one request asks for: the most that a directory gives.
const pageSize = 1000

var tenantView = view[directory.Tenant]{
	kind: "Tenant",
	name: func(t directory.Tenant) string { return "tenant/" + t.Slug },
	columns: []column[directory.Tenant]{
		{title: "name", text: func(t directory.Tenant, _ clock) string { return t.Slug }},
		{title: "id", text: func(t directory.Tenant, _ clock) string { return t.ID.String() }},
		{title: "cell", text: func(t directory.Tenant, _ clock) string { return string(t.Placement.Cell) }},
		{title: "epoch", text: func(t directory.Tenant, _ clock) string { return epoch(t.Placement.Epoch) }},
		{title: "state", text: func(t directory.Tenant, _ clock) string { return string(t.Placement.State) }},
		{title: "locality", text: func(t directory.Tenant, _ clock) string { return t.Locality }},
		{title: "tier", text: func(t directory.Tenant, _ clock) string { return t.Tier }},
		{title: "age", text: func(t directory.Tenant, now clock) string { return age(now, t.CreatedAt) }},
		{title: "pinned", wide: true, text: func(t directory.Tenant, _ clock) string { return yesNo(t.Pinned) }},
		{title: "group", wide: true, text: func(t directory.Tenant, _ clock) string { return t.Group }},
		{title: "budget", wide: true, text: func(t directory.Tenant, _ clock) string { return pause(t.PauseBudget) }},
		{title: "hosts", wide: true, text: func(t directory.Tenant, _ clock) string { return strings.Join(t.Hosts, ",") }},
		{title: "title", wide: true, text: func(t directory.Tenant, _ clock) string { return t.Name }},
		dated("created", func(t directory.Tenant) time.Time { return t.CreatedAt }),
	},
}

func (a *app) tenantCommand() *cobra.Command {
	yes, no := true, false
	return group(&cobra.Command{Use: "tenant", Aliases: []string{"tenants"}, Short: "Tenants: who they are and which cell owns them"},
		a.tenantCreate(), a.tenantList(), a.tenantGet(), a.tenantWhere(),
		a.tenantChange("suspend", "Refuse a tenant's requests with 403", directory.Change{Suspended: &yes}),
		a.tenantChange("resume", "Serve a suspended tenant again", directory.Change{Suspended: &no}),
		a.tenantChange("pin", "Keep planners from moving a tenant", directory.Change{Pinned: &yes}),
		a.tenantChange("unpin", "Let planners move a tenant", directory.Change{Pinned: &no}),
		a.tenantSet(), a.tenantMove(), a.tenantQuarantine(), a.tenantDelete(), a.tenantDeleted(), a.tenantPurge())
}

func (a *app) tenantCreate() *cobra.Command {
	var t directory.NewTenant
	var cell string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a tenant and place it", Args: names("NAME"),
		Example: "  cellctl tenant create acme --locality eu --host shop.acme.example\n  cellctl tenant create acme --cell c2",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t.Slug, t.Cell = args[0], directory.CellID(cell)
			created, err := d.CreateTenant(ctx, t)
			if err != nil {
				return createHint(ctx, d, t, err)
			}
			return tenantView.one(a, created, "cellctl token create --tenant "+created.Slug+" --subject NAME")
		}),
	}
	f := cmd.Flags()
	addNames(cmd, &t.Name, &t.Hosts)
	f.StringVar(&t.Locality, "locality", "", "where its data may be (default anywhere)")
	f.StringVar(&t.Tier, "tier", "", "which class of cell serves it (default any)")
	f.StringVar(&cell, "cell", "", "cell to place it in (default the least loaded that fits)")
	addApart(cmd, &t.Group, &t.PauseBudget)
	_ = cmd.RegisterFlagCompletionFunc("cell", a.completeCell)
	return cmd
}

func addNames(cmd *cobra.Command, title *string, hosts *[]string) {
	cmd.Flags().StringVar(title, "title", "", "name for people (default none)")
	cmd.Flags().StringSliceVar(hosts, "host", nil, "host name of its own; may be given several times")
}

func addApart(cmd *cobra.Command, group *string, budget *time.Duration) {
	cmd.Flags().StringVar(group, "group", "", "group of tenants that stay apart: no two of it come to one cell (default none)")
	cmd.Flags().DurationVar(budget, "pause-budget", 0, "how long planned moves may make it wait within a day; 0s is as long as it takes")
}

func (a *app) tenantSet() *cobra.Command {
	var title, group string
	var hosts []string
	var budget time.Duration
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Change a tenant's title and hosts, and what plans have to respect", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Long: "Changes what is given and nothing else; the hosts given replace those that it has. Its name\n(the slug) stays. Plans respect a group and a budget from now on; tenants of a group that are\n" +
			"together already stay so until one of them is moved.",
		Example: "  cellctl tenant set acme --title 'Acme Inc.' --host shop.acme.example --host acme.example\n  cellctl tenant set acme --host ''\n" +
			"  cellctl tenant set acme --group acme-replicas --pause-budget 2s\n  cellctl tenant set acme --group '' --pause-budget 0s",
	}
	addNames(cmd, &title, &hosts)
	addApart(cmd, &group, &budget)
	cmd.RunE = a.asks(func(ctx context.Context, d api, args []string) error {
		var change directory.Change
		if cmd.Flags().Changed("title") {
			change.Name = &title
		}
		if cmd.Flags().Changed("host") {
			change.Hosts = &hosts
		}
		if cmd.Flags().Changed("group") {
			change.Group = &group
		}
		if cmd.Flags().Changed("pause-budget") {
			change.PauseBudget = &budget
		}
		if change == (directory.Change{}) {
			return usage("cellctl tenant set --help", "nothing is given to set: --title, --host, --group or --pause-budget")
		}
		t, err := findTenant(ctx, d, args[0])
		if err != nil {
			return err
		}
		if t, err = d.UpdateTenant(ctx, t.ID, change); err != nil {
			return takenHint(ctx, d, t.ID, "host", hosts, err)
		}
		return tenantView.one(a, t)
	})
	return cmd
}

func (a *app) tenantList() *cobra.Command {
	var cell, name string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the tenants, or find some", Args: names(),
		Example: "  cellctl tenant list --name acme -o wide\n  cellctl tenant list --cell c1\n  cellctl tenant list --limit 0 -o name",
	}
	cmd.RunE = a.asks(func(ctx context.Context, d api, _ []string) error {
		if limit < 0 {
			return usage("0 is all", "--limit must not be negative")
		}
		if cmd.Flags().Changed("name") && len(directory.Words(name)) == 0 {
			return usage("leave it away for all tenants", "--name must have a letter or a digit")
		}
		if err := knownCells(ctx, d, cell); err != nil {
			return err
		}
		tenants, more, err := listTenants(ctx, d, directory.TenantFilter{Cell: directory.CellID(cell), Name: name}, limit)
		if err != nil {
			return err
		}
		if more {
			a.note("there are more than %d; --limit 0 shows all", limit)
		}
		return tenantView.list(a, tenants, map[string]bool{"more": more})
	})
	cmd.Flags().StringVar(&cell, "cell", "", "only those that this cell owns")
	cmd.Flags().StringVar(&name, "name", "", "only those whose name and title have words that begin with these")
	cmd.Flags().IntVar(&limit, "limit", 500, "at most so many; 0 is all")
	_ = cmd.RegisterFlagCompletionFunc("cell", a.completeCell)
	return cmd
}

// listTenants reads page after page; more reports whether limit cut it short.
func listTenants(ctx context.Context, d api, of directory.TenantFilter, limit int) (tenants []directory.Tenant, more bool, err error) {
	after := directory.TenantID(0)
	for {
		page, err := d.ListTenants(ctx, of, after, pageSize)
		if err != nil {
			return nil, false, err
		}
		tenants = append(tenants, page...)
		if limit > 0 && len(tenants) > limit {
			return tenants[:limit], true, nil
		}
		if len(page) < pageSize {
			return tenants, false, nil
		}
		after = page[len(page)-1].ID
	}
}

func (a *app) tenantGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show one tenant, by name or id", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			return tenantView.one(a, t)
		}),
	}
}

func (a *app) tenantChange(verb, short string, change directory.Change) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			if t, err = d.UpdateTenant(ctx, t.ID, change); err != nil {
				return err
			}
			return tenantView.one(a, t)
		}),
	}
}

func (a *app) tenantDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a tenant and release its names", Args: names("NAME"), ValidArgsFunction: a.completeTenant,
		Long: "The tenant's cell lets nobody act for it any more: no request, schedule, job or event.\nIts data is kept, frozen, until the grace is over (cellctl tenant deleted), then purged.",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t, err := findTenant(ctx, d, args[0])
			if err != nil {
				return err
			}
			consequence := "Cell " + string(t.Placement.Cell) + " serves it no more, and its name and hosts are free for others. Its data goes when its grace is over."
			if err := a.confirm(ctx, yes, "tenant", t.Slug, consequence); err != nil {
				return err
			}
			if err := d.DeleteTenant(ctx, t.ID); err != nil {
				return err
			}
			if err := a.done(tenantView.name(t), "deleted", "cellctl tenant deleted", "cellctl tenant purge "+t.ID.String()); err != nil {
				return err
			}
			a.note("its data goes when its grace is over (cellctl tenant deleted), or with cellctl tenant purge %s", t.ID)
			return nil
		}),
	}
	addYes(cmd, &yes)
	return cmd
}

func epoch(e directory.Epoch) string { return strconv.FormatInt(int64(e), 10) }
