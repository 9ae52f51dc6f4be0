package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// A build is what a program was built from.
type build struct {
	Part      string `json:"part"`
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"`
	GoVersion string `json:"goversion,omitempty"`
	Schema    int64  `json:"schema,omitempty"` // number of the directory's newest migration
}

var buildView = view[build]{
	kind: "Version",
	name: func(b build) string { return "version/" + b.Version },
	columns: []column[build]{
		{title: "part", text: func(b build, _ clock) string { return b.Part }},
		{title: "version", text: func(b build, _ clock) string { return b.Version }},
		{title: "revision", text: func(b build, _ clock) string { return b.Revision }},
		{title: "schema", text: func(b build, _ clock) string { return number(b.Schema) }},
		{title: "go", wide: true, text: func(b build, _ clock) string { return b.GoVersion }},
	},
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of cellctl and, where they are named, of the directory and a router", Args: names(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("timeout") {
				a.flags.timeout = 3 * time.Second // what this is can be said without the others
			}
			own := run.BuildInfo()
			builds := []build{{"cellctl", own["version"], own["revision"], own["goversion"], 0}}
			if s.Router != "" {
				builds = append(builds, a.buildOf("router", func(b *build) error {
					return a.askRouter(cmd.Context(), s.Router, "/version", nil, b)
				}))
			}
			if s.Addr != "" {
				builds = append(builds, a.buildOf("directory", func(b *build) error {
					d, err := a.directory()
					if err != nil {
						return err
					}
					v, err := d.Version(cmd.Context())
					b.Version, b.Revision, b.GoVersion, b.Schema = v.Version, v.Revision, v.GoVersion, v.Schema
					return err
				}))
			}
			return buildView.list(a, builds, nil)
		},
	}
}

// buildOf is what ask learns of a part. One that does not tell is no error: which version
// this is can be said all the same.
func (a *app) buildOf(part string, ask func(*build) error) build {
	b := build{Part: part}
	if err := ask(&b); err != nil {
		a.note("%s: %s", part, oneLine(err.Error()))
		return build{Part: part, Version: "unknown"}
	}
	return b
}

// maxAnswer bounds what is read of a router's answer, in bytes.
const maxAnswer = 1 << 20

// askRouter reads a page of a router's admin listener.
func (a *app) askRouter(ctx context.Context, router, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, a.flags.timeout)
	defer cancel()
	base, err := url.Parse(router)
	if err != nil || base.Host == "" {
		return usage("such as http://127.0.0.1:8081", "router URL %q is not an http or https URL", router)
	}
	page := base.JoinPath(path)
	page.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page.String(), nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := a.http().Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the question, which may have a token in it
		}
		return problem.Wrap(problem.Unavailable, cmp.Or(ctx.Err(), err), "the router does not answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return problem.Read(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return problem.Wrap(problem.BadGateway, err, "the router's answer makes no sense")
	}
	return nil
}
