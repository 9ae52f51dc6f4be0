package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

var keyView = view[directory.Key]{
	kind: "Key",
	name: func(k directory.Key) string { return "key/" + k.ID },
	columns: []column[directory.Key]{
		{title: "id", text: func(k directory.Key, _ clock) string { return k.ID }},
		{title: "name", text: func(k directory.Key, _ clock) string { return k.Name }},
		{title: "age", text: func(k directory.Key, now clock) string { return age(now, k.CreatedAt) }},
		{title: "expires", text: func(k directory.Key, _ clock) string {
			if k.ExpiresAt.IsZero() {
				return "never"
			}
			return k.ExpiresAt.Format(time.RFC3339)
		}},
		dated("created", func(k directory.Key) time.Time { return k.CreatedAt }),
	},
}

func (a *app) keyCommand() *cobra.Command {
	return group(&cobra.Command{Use: "key", Aliases: []string{"keys"}, Short: "API keys: what a tenant's programs show at the endpoint"},
		a.keyCreate(), a.keyList(), a.keyRevoke())
}

// A newKey is a key as its maker sees it once: with its secret.
type newKey struct {
	Secret string `json:"key"`
	directory.Key
}

func (a *app) keyCreate() *cobra.Command {
	var tenant, name string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create --tenant NAME --name WHAT", Short: "Make an API key for a tenant", Args: names(),
		Long:    "Makes a key that is bound to the tenant and to no cell: it stays valid when the\ntenant moves. It is made here and shown once; the directory gets its hash only.\nThe key alone goes to standard output.",
		Example: "  cellctl key create --tenant acme --name ci\n  cellctl key create --tenant acme --name trial --ttl 720h",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "tenant", "name") },
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			t, err := findTenant(ctx, d, tenant)
			if err != nil {
				return err
			}
			if ttl < 0 || ttl > 0 && ttl < time.Second {
				return usage("such as 720h", "--ttl must be at least a second")
			}
			key, record := token.NewAPIKey()
			record.Tenant, record.Name = t.ID, name
			if ttl > 0 {
				record.ExpiresAt = a.now().Add(ttl + time.Second - 1).UTC().Truncate(time.Second) // not before its time
			}
			if record, err = d.AddKey(ctx, record); err != nil {
				return err
			}
			revoke := fmt.Sprintf("cellctl key revoke %s --tenant %s", record.ID, t.Slug)
			if keyView.isDocument(a) {
				err = a.document("Key", newKey{key, record}, map[string]any{"next_steps": a.there(revoke)})
			} else {
				_, err = fmt.Fprintln(a.out, key)
			}
			if err != nil {
				return hinted{
					fmt.Errorf("write the key: %w", err),
					"it counts, and nobody has it: " + revoke,
				}
			}
			if isTerminal(a.out) && !keyView.isDocument(a) {
				a.note("kept nowhere: copy it now; to end it: %s", revoke)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "name or id of the tenant")
	cmd.Flags().StringVar(&name, "name", "", "what it is for")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is valid (default until it is revoked)")
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenant)
	return cmd
}

func (a *app) keyList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "list --tenant NAME", Short: "List a tenant's keys", Args: names(),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "tenant") },
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			t, err := findTenant(ctx, d, tenant)
			if err != nil {
				return err
			}
			keys, err := d.ListKeys(ctx, t.ID)
			if err != nil {
				return err
			}
			return keyView.list(a, keys, nil)
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "name or id of the tenant")
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenant)
	return cmd
}

func (a *app) keyRevoke() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "revoke ID --tenant NAME", Short: "End a key; routers refuse it within a second", Args: names("ID"),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "tenant") },
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			t, err := findTenant(ctx, d, tenant)
			if err != nil {
				return err
			}
			if err := d.RevokeKey(ctx, t.ID, args[0]); err != nil {
				return withHint(err, problem.NotFound, "cellctl key list --tenant %s shows them", t.Slug)
			}
			return a.done("key/"+args[0], "revoked")
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "name or id of the tenant")
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenant)
	return cmd
}
