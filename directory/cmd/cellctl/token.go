package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// A bearer is a token with what a person has to know of it.
type bearer struct {
	Token     string     `json:"token"`
	Kind      token.Kind `json:"token_kind"`
	Tenant    string     `json:"tenant,omitempty"`
	Subject   string     `json:"subject"`
	ExpiresAt time.Time  `json:"expires_at"`
}

func (a *app) tokenCommand() *cobra.Command {
	return group(&cobra.Command{Use: "token", Aliases: []string{"tokens"}, Short: "Tokens: what bearers show at the endpoint and the directory"},
		a.tokenCreate(), a.tokenSign(), a.tokenKeygen())
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
			b.Kind, b.Tenant = token.Tenant, t.Slug
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

// tokenSign is how the first operator, and every router and cell, gets a token:
// who has the keys needs nobody's permission.
func (a *app) tokenSign() *cobra.Command {
	var b bearer
	var ttl time.Duration
	var kind, keyFile string
	cmd := &cobra.Command{
		Use: "sign --kind KIND --subject WHO --keys-file FILE", Short: "Sign a token with the keys themselves, without a directory", Args: names(),
		Example: "  cellctl token sign --kind operator --subject alice --keys-file keys\n  cellctl token sign --kind service --subject router-1 --ttl 8760h --keys-file - <keys",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "kind", "subject", "keys-file") },
		RunE: func(*cobra.Command, []string) error {
			if b.Kind = token.Kind(kind); b.Kind != token.Operator && b.Kind != token.Service {
				return usage("operator or service; cellctl token create makes a tenant's", "unknown kind %q", kind)
			}
			keys, err := a.readKeys(keyFile)
			if err != nil {
				return err
			}
			now := a.now()
			b.ExpiresAt = now.Add(ttl).UTC().Truncate(time.Second)
			if b.Token, err = keys.Issue(token.Claims{Kind: b.Kind, Subject: b.Subject}, now, ttl); err != nil {
				return err
			}
			return a.showToken(b)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "operator (may change the directory) or service (a router, a cell)")
	cmd.Flags().StringVar(&b.Subject, "subject", "", "who will use it")
	cmd.Flags().DurationVar(&ttl, "ttl", 720*time.Hour, "how long it is valid")
	cmd.Flags().StringVar(&keyFile, "keys-file", "", "file with the keys as the directory has them; - is standard input")
	return cmd
}

// maxKeys bounds what is read as keys, in bytes.
const maxKeys = 64 << 10

func (a *app) readKeys(path string) (token.Keys, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("", "read keys: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeys))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return token.ParseKeys(string(b))
}

func (a *app) tokenKeygen() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "keygen --id ID", Short: "Make a new key for tokens or assertions", Args: names(),
		Long:    "Makes a key. To rotate: add it at the end of the keys everywhere, then move it\nto the front, then drop the old one.",
		Example: "  cellctl token keygen --id k2026 >keys",
		RunE: func(*cobra.Command, []string) error {
			key := token.NewKey(id)
			if _, err := token.ParseKeys(key); err != nil {
				return problem.New(problem.Invalid, "key id %q: must be of a-z, 0-9 and -", id)
			}
			fmt.Fprintln(a.out, key)
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "k1", "public name of the key")
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
