package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
)

// newKey prints a fresh key in the form of TOKEN_KEYS.
func newKey(args []string, out io.Writer) error {
	flags := newFlags("directory new-key")
	id := flags.String("id", "k1", "public name of the key: a-z, 0-9 and -")
	if err := flags.Parse(args); err != nil {
		return err
	}
	key := token.NewKey(*id)
	if _, err := token.ParseKeys(key); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, key)
	return err
}

// deriveKeys prints, of the keys on in, those for whom: each process gets what it needs, and none more.
func deriveKeys(args []string, in io.Reader, out io.Writer) error {
	flags := newFlags("directory derive-keys")
	whom := flags.String("for", "", "tenants or movers (of TOKEN_KEYS, for routers or movers), cell/NAME (of a router's keys, for a cell) or public (of a mover's keys, for cells)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(in, 1<<16))
	if err != nil {
		return err
	}
	keys, err := token.ParseKeys(string(text))
	if err != nil {
		return err
	}
	cell, ofCell := strings.CutPrefix(*whom, "cell/")
	switch {
	case *whom == "public":
		keys = keys.Public()
	case *whom == token.Tenants, *whom == token.Movers:
		keys = keys.For(*whom)
	case ofCell && cell != "":
		keys = keys.For(token.OfCell(directory.CellID(cell)))
	default:
		return errors.New("--for must be tenants, movers, cell/NAME or public")
	}
	_, err = fmt.Fprintln(out, keys.Text())
	return err
}

// issueToken prints a token signed with the first of TOKEN_KEYS. It needs no
// database: whoever has the keys may be anybody.
func issueToken(args, environ []string, out io.Writer) error {
	flags := newFlags("directory issue-token")
	kind := flags.String("kind", "", "router, cell, mover, operator or tenant")
	subject := flags.String("subject", "", "who will use it; of a cell or router its id, of routers that share it the beginning of their ids and *")
	tenant := flags.String("tenant", "", "id of the tenant, for kind tenant")
	ttl := flags.Duration("ttl", 0, "lifetime, such as 720h")
	if err := flags.Parse(args); err != nil {
		return err
	}
	claims := token.Claims{Kind: token.Kind(*kind), Subject: *subject}
	if !slices.Contains([]token.Kind{token.Router, token.Cell, token.Mover, token.Operator, token.Tenant}, claims.Kind) {
		return errors.New("--kind must be router, cell, mover, operator or tenant")
	}
	if *subject == "" {
		return errors.New("--subject must say who will use the token")
	}
	if *tenant != "" {
		id, err := directory.ParseTenantID(*tenant)
		if err != nil {
			return err
		}
		claims.Tenant = id
	}
	keys, err := signingKeys(environ)
	if err != nil {
		return err
	}
	if claims.Kind == token.Tenant {
		keys = keys.For(token.Tenants)
	}
	signed, err := keys.Issue(claims, time.Now(), *ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, signed)
	return err
}

// signingKeys reads TOKEN_KEYS alone: the other settings may be there or not.
func signingKeys(environ []string) (token.Keys, error) {
	var only struct {
		TokenKeys config.Secret `env:"TOKEN_KEYS,required"`
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return !strings.HasPrefix(kv, prefix+"TOKEN_KEYS") })
	if err := config.Load(prefix, environ, &only); err != nil {
		return nil, err
	}
	return token.ParseKeys(string(only.TokenKeys))
}
