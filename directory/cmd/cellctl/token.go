package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// A bearer is a token with what a person has to know of it.
type bearer struct {
	Token     string    `json:"token"`
	Tenant    string    `json:"tenant"`
	Subject   string    `json:"subject"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *app) tokenCommand() *cobra.Command {
	return group(&cobra.Command{Use: "token", Aliases: []string{"tokens"}, Short: "Tokens: what a tenant's users show at the endpoint"},
		a.tokenCreate(), a.tokenRevoke())
}

func (a *app) tokenCreate() *cobra.Command {
	var b bearer
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create --tenant NAME --subject WHO", Short: "Make a token with which WHO acts for a tenant", Args: names(),
		Long:    "Makes a token that is bound to the tenant and to no cell: it stays valid when\nthe tenant moves. The token alone goes to standard output.",
		Example: "  cellctl token create --tenant acme --subject alice --ttl 720h\n  TOKEN=$(cellctl token create --tenant acme --subject ci --ttl 1h)",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "tenant", "subject") },
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			t, err := findTenant(ctx, d, b.Tenant)
			if err != nil {
				return err
			}
			b.Tenant = t.Slug
			issued, err := d.IssueToken(ctx, t.ID, b.Subject, ttl)
			if err != nil {
				return err
			}
			b.Token, b.ExpiresAt = issued.Token, issued.ExpiresAt
			return a.showToken(b)
		}),
	}
	cmd.Flags().StringVar(&b.Tenant, "tenant", "", "name or id of the tenant")
	cmd.Flags().StringVar(&b.Subject, "subject", "", "who will use it: a person or a program")
	cmd.Flags().DurationVar(&ttl, "ttl", 720*time.Hour, "how long it is valid")
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenant)
	return cmd
}

// showToken prints the bare token unless a document is asked for.
func (a *app) showToken(b bearer) error {
	if (view[bearer]{}).isDocument(a) {
		return a.document("Token", b)
	}
	fmt.Fprintln(a.out, b.Token)
	if isTerminal(a.out) { // who reads it into a variable needs no comment
		a.note("valid until %s", b.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN", Short: "End a token before its time", Args: names("TOKEN"),
		Long:    "Ends a tenant's token: every router that hears of the directory refuses it\nwithin a second. TOKEN - is read from standard input, where nobody else sees it.",
		Example: "  cellctl token revoke - < token.txt",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			s := args[0]
			if s == "-" {
				b, err := io.ReadAll(io.LimitReader(a.in, 16<<10))
				if err != nil {
					return fmt.Errorf("read token: %w", err)
				}
				s = strings.TrimSpace(string(b))
			}
			c, ok := token.Inspect(s)
			if !ok || c.Kind != token.Tenant {
				return usage("it begins with cwt1.", "this is not a tenant's token")
			}
			gone := directory.RevokedToken{ID: c.ID, Tenant: c.Tenant, ExpiresAt: time.Unix(c.ExpiresAt, 0)}
			if err := d.RevokeToken(ctx, gone); err != nil {
				return err
			}
			return a.done("token/"+c.ID, "revoked")
		}),
	}
}
