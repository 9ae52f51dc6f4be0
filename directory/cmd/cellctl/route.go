package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// An explanation is a router's answer to GET /explain on its admin listener.
type explanation struct {
	Verdict string             `json:"verdict"` // forward, hold, signup, hello or refuse
	Source  string             `json:"source,omitempty"`
	Tenant  directory.TenantID `json:"tenant,omitempty"`
	Cell    directory.CellID   `json:"cell,omitempty"`
	Address string             `json:"address,omitempty"`
	Epoch   directory.Epoch    `json:"epoch,omitempty"`
	State   directory.State    `json:"state,omitempty"`
	Status  int                `json:"status,omitempty"` // of a refusal
	Code    string             `json:"code,omitempty"`   // of a refusal
	Why     string             `json:"why"`
	Version directory.Version  `json:"version"` // of the router's table
	Sources []sourceSays       `json:"sources"`
}

// sourceSays is what one source of the chain made of the request.
type sourceSays struct {
	Source string             `json:"source"`
	Says   string             `json:"says,omitempty"`
	Tenant directory.TenantID `json:"tenant,omitempty"`
	Error  string             `json:"error,omitempty"`
}

var explanationView = view[explanation]{
	kind: "Explanation",
	name: func(e explanation) string { return "cell/" + dash(string(e.Cell)) },
	columns: []column[explanation]{
		{title: "verdict", text: func(e explanation, _ clock) string { return e.Verdict }},
		{title: "tenant", text: func(e explanation, _ clock) string { return number(e.Tenant) }},
		{title: "cell", text: func(e explanation, _ clock) string { return string(e.Cell) }},
		{title: "epoch", text: func(e explanation, _ clock) string { return number(e.Epoch) }},
		{title: "state", text: func(e explanation, _ clock) string { return string(e.State) }},
		{title: "status", text: func(e explanation, _ clock) string { return number(e.Status) }},
		{title: "why", text: func(e explanation, _ clock) string { return e.Why }},
		{title: "address", wide: true, text: func(e explanation, _ clock) string { return e.Address }},
		{title: "table", wide: true, text: func(e explanation, _ clock) string { return version(e.Version) }},
	},
}

var sourceView = view[sourceSays]{
	kind: "Source",
	name: func(s sourceSays) string { return "source/" + s.Source },
	columns: []column[sourceSays]{
		{title: "source", text: func(s sourceSays, _ clock) string { return s.Source }},
		{title: "says", text: func(s sourceSays, _ clock) string { return s.Says }},
		{title: "tenant", text: func(s sourceSays, _ clock) string { return number(s.Tenant) }},
		{title: "error", text: func(s sourceSays, _ clock) string { return s.Error }},
	},
}

func (a *app) routeCommand() *cobra.Command {
	return group(&cobra.Command{Use: "route", Short: "Routes: why a request goes where it goes"}, a.routeExplain())
}

func (a *app) routeExplain() *cobra.Command {
	var r request
	cmd := &cobra.Command{
		Use: "explain", Short: "Ask a router what it would do with a request, and why", Args: names(),
		Long:    "Asks a router which of the request's sources name a tenant and what it would do.\nNothing is sent to any cell. A refusal is an answer, too: the exit code is 0.",
		Example: "  cellctl route explain --path /t/acme/v1/projects --bearer $TOKEN\n  cellctl route explain --host shop.acme.example --header 'X-Tenant: beta'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := r.query()
			if err != nil {
				return err
			}
			s, err := a.settings()
			if err != nil {
				return err
			}
			if s.Router == "" {
				return usage("set --router, CELLCTL_ROUTER or a context in "+a.filePath(), "no router is named")
			}
			var e explanation
			if err := a.askRouter(cmd.Context(), s.Router, "/explain", query, &e); err != nil {
				return err
			}
			return a.explain(e)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.method, "method", "GET", "method of the request")
	f.StringVar(&r.host, "host", "", "host that it is sent to")
	f.StringVar(&r.path, "path", "/", "path, with the query if there is one")
	f.StringVar(&r.bearer, "bearer", "", "token that it carries")
	f.StringArrayVar(&r.headers, "header", nil, "header, as 'Name: value'; may be given several times")
	f.StringArrayVar(&r.cookies, "cookie", nil, "cookie, as name=value; may be given several times")
	return cmd
}

// A request is what a router is asked about.
type request struct {
	method, host, path, bearer string
	headers, cookies           []string
}

// query is the request as /explain reads it.
func (r request) query() (url.Values, error) {
	q := url.Values{"path": {r.path}, "method": {r.method}}
	if r.host != "" {
		q.Set("host", r.host)
	}
	if r.bearer != "" {
		q.Set("token", r.bearer)
	}
	for _, h := range r.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return nil, usage("write it as --header 'Name: value'", "a header has no colon")
		}
		q.Add("header."+name, strings.TrimSpace(value))
	}
	for _, c := range r.cookies {
		name, value, ok := strings.Cut(c, "=")
		if !ok || name == "" {
			return nil, usage("write it as --cookie name=value", "a cookie has no =")
		}
		q.Add("cookie."+name, value)
	}
	return q, nil
}

// explain shows the verdict and, in a table, how each source came to it.
func (a *app) explain(e explanation) error {
	if err := explanationView.one(a, e); err != nil {
		return err
	}
	if a.flags.output != "table" && a.flags.output != "wide" {
		return nil
	}
	fmt.Fprintln(a.out)
	sourceView.rows(a, e.Sources)
	return nil
}

// number is n in decimal, and nothing for none.
func number[N ~int | ~int64](n N) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}
