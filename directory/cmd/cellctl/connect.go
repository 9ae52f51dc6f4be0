package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// asks makes a command's function of one that needs the directory.
func (a *app) asks(f func(ctx context.Context, d api, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		d, err := a.directory()
		if err != nil {
			return err
		}
		return inFlags(cmd, f(cmd.Context(), d, args))
	}
}

// api is what cellctl asks of a directory; *client.Client is it.
type api interface {
	directory.Directory
	directory.Rollouts
	IssueToken(ctx context.Context, id directory.TenantID, subject string, ttl time.Duration) (client.Token, error)
	Version(ctx context.Context) (client.Version, error)
}

// directory is the directory that the settings name. It is asked once per
// question: a person can repeat a command, and knows when not to.
func (a *app) directory() (api, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if s.Addr == "" {
		return nil, usage("set --addr, CELLCTL_ADDR or a context in "+a.filePath()+"; after cellway up: CELLCTL_CONFIG=.cellway/cellctl.yaml", "no directory is named")
	}
	return client.New(client.Options{URL: s.Addr, Token: s.Token, Timeout: a.flags.timeout, Attempts: 1, HTTP: a.http()})
}

// http makes an HTTP client that follows no redirect, so that the token goes
// only where it was meant to go.
func (a *app) http() *http.Client {
	return &http.Client{
		Transport:     listener{&http.Transport{Proxy: http.ProxyFromEnvironment}, a},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A listener notes the id of a request that is refused, for the error's line:
// operators find the request in the logs by it. And it notes whether a change was asked for.
type listener struct {
	next http.RoundTripper
	app  *app
}

// RoundTrip sends the request.
func (l listener) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet {
		l.app.changes.Store(true)
	}
	resp, err := l.next.RoundTrip(req)
	if err == nil && resp.StatusCode >= 400 {
		if id := resp.Header.Get(telemetry.RequestIDHeader); id != "" {
			l.app.requestID.CompareAndSwap(nil, &id)
		}
	}
	return resp, err
}

// nearby adds a hint to a NotFound: the name of list that is most like the one
// asked for, else what to do.
func nearby(err error, name, otherwise string, list func() ([]string, error)) error {
	if problem.KindOf(err) != problem.NotFound {
		return err
	}
	known, listErr := list()
	if near, distance := config.Nearest(name, known); listErr == nil && near != "" && distance <= 1+len(name)/4 {
		return withHint(err, problem.NotFound, "did you mean %q?", near)
	}
	return withHint(err, problem.NotFound, "%s", otherwise)
}

// completeCell gives the shell the names of the cells.
func (a *app) completeCell(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, d api) ([]string, error) {
		cells, err := d.ListCells(ctx)
		return ids(cells), err
	})
}

// completeTenant gives the shell the names of the first tenants with what was typed.
func (a *app) completeTenant(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, d api) ([]string, error) {
		of := directory.TenantFilter{Name: typed}
		if of.Validate() != nil {
			of.Name = ""
		}
		tenants, err := d.ListTenants(ctx, of, 0, pageSize)
		return slugs(tenants), err
	})
}

func (a *app) complete(cmd *cobra.Command, args []string, list func(context.Context, api) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	d, err := a.directory()
	if err != nil || len(args) > 0 && cmd.Args != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := list(cmd.Context(), d)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
