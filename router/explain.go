package router

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/identify"
)

// An Explanation says what the router would do with a request, and why. cellctl
// reads it.
type Explanation struct {
	Sources []SourceSays       `json:"sources"` // in the chain's order
	Source  string             `json:"source,omitempty"`
	Tenant  directory.TenantID `json:"tenant,omitempty"`
	Cell    directory.CellID   `json:"cell,omitempty"`
	Address string             `json:"address,omitempty"`
	Epoch   directory.Epoch    `json:"epoch,omitempty"`
	State   directory.State    `json:"state,omitempty"`
	Verdict Verdict            `json:"verdict"`
	Status  int                `json:"status,omitempty"` // of a refusal
	Code    problem.Kind       `json:"code,omitempty"`   // of a refusal
	Why     string             `json:"why"`
	Version directory.Version  `json:"version"` // of the table
}

// SourceSays is what one source made of the request.
type SourceSays struct {
	Source string             `json:"source"`
	Says   string             `json:"says,omitempty"` // "" where it is not present
	Tenant directory.TenantID `json:"tenant,omitempty"`
	Error  string             `json:"error,omitempty"`
}

// TableInfo is the state of the table.
type TableInfo struct {
	Version directory.Version     `json:"version"`
	Age     float64               `json:"age_seconds"` // since the directory confirmed it; -1: never
	Source  string                `json:"source"`      // disk, directory or none
	Tenants int                   `json:"tenants"`
	Bytes   int                   `json:"bytes"`
	Cells   []directory.CellRoute `json:"cells"`
	// Refusing is the version that takes too many tenants away to be served before
	// an operator allows it; 0 where there is none.
	Refusing directory.Version `json:"refusing,omitempty"`
	// Rollout is the roll-out whose changes are served over the record, "" where there is none.
	Rollout directory.RolloutID `json:"rollout,omitempty"`
}

// Admin adds the router's pages and its readiness to the admin listener: ready
// is who has a table and knows the credentials, from disk or from the directory, and
// has the issuers' keys.
func (rt *Router) Admin(a *run.Admin) {
	a.Check("table", rt.ready)
	a.Check("keys", rt.Chain.Ready)
	a.Check("issuers", rt.Guard.Ready)
	a.Handle("GET /explain", http.HandlerFunc(rt.explain))
	a.Handle("GET /table", http.HandlerFunc(rt.tableInfo))
	a.Handle("POST /table/allow", http.HandlerFunc(rt.allowTable))
}

func (rt *Router) ready(context.Context) error {
	if !rt.Table.Loaded() {
		return errors.New("no table from disk or directory yet")
	}
	return nil
}

func (rt *Router) explain(w http.ResponseWriter, r *http.Request) {
	asked, err := askedRequest(r)
	if err != nil {
		telemetry.Problem(w, r, source, err)
		return
	}
	d := rt.decide(identify.HeadOf(asked), rt.Table.View(), (*identify.Chain).Explain)
	writeJSON(w, explanation(d))
}

// askedRequest is the request that the query describes: method, host, path,
// token, header.NAME and cookie.NAME.
func askedRequest(r *http.Request) (*http.Request, error) {
	q := r.URL.Query()
	target := q.Get("path")
	if target == "" {
		target = "/"
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || !strings.HasPrefix(target, "/") {
		return nil, problem.New(problem.Invalid, "query/path is not a path")
	}
	out := (&http.Request{Method: http.MethodGet, URL: u, Host: q.Get("host"), Header: http.Header{}}).WithContext(r.Context())
	if m := q.Get("method"); m != "" {
		out.Method = strings.ToUpper(m)
	}
	if t := q.Get("token"); t != "" {
		out.Header.Set("Authorization", "Bearer "+t)
	}
	for key, values := range q {
		if name, ok := strings.CutPrefix(key, "header."); ok {
			out.Header[http.CanonicalHeaderKey(name)] = append(out.Header[http.CanonicalHeaderKey(name)], values...)
		}
		if name, ok := strings.CutPrefix(key, "cookie."); ok {
			for _, v := range values {
				out.Header["Cookie"] = append(out.Header["Cookie"], name+"="+v)
			}
		}
	}
	return out, nil
}

func explanation(d Decision) Explanation {
	e := Explanation{
		Source: d.Source, Tenant: d.Entry.Tenant, Cell: d.Entry.Cell, Address: d.Entry.Address, Epoch: d.Entry.Epoch,
		State: d.Entry.State, Verdict: d.Verdict, Version: d.Version,
	}
	for _, a := range d.Answers {
		s := SourceSays{Source: a.Source, Says: a.Ref.String(), Tenant: a.Entry.Tenant}
		switch {
		case a.Err != nil:
			s.Error = a.Err.Error()
		case a.Ref != (identify.Ref{}) && !a.Found:
			s.Error = "not in the table"
		}
		e.Sources = append(e.Sources, s)
	}
	switch d.Verdict {
	case Refuse:
		e.Code = problem.KindOf(d.Err)
		e.Status, e.Why = e.Code.Status(), d.Err.Error()
	case Forward:
		e.Why = "identified by " + d.Source + "; the cell owns the tenant"
	case Hold:
		e.Why = "identified by " + d.Source + "; the owner is about to change"
	case Signup:
		e.Why = "names no tenant; the directory takes sign-ups"
	case Hello:
		e.Why = "names no tenant and asks for nothing"
	}
	return e
}

func (rt *Router) tableInfo(w http.ResponseWriter, _ *http.Request) {
	v := rt.Table.View()
	refusing, _ := rt.Table.Refusing()
	info := TableInfo{v.Version(), age(rt.Table), v.Source(), v.Tenants(), v.Bytes(), v.Cells(), refusing, ""}
	if p := rt.Table.Part(); p.Serves() {
		info.Rollout = p.Rollout
	}
	writeJSON(w, info)
}

// allowTable lets updates up to the version asked for pass the guard.
func (rt *Router) allowTable(w http.ResponseWriter, r *http.Request) {
	version, err := strconv.ParseInt(r.URL.Query().Get("version"), 10, 64)
	if err != nil || version <= 0 {
		telemetry.Problem(w, r, source, problem.New(problem.Invalid, "query/version is not a version"))
		return
	}
	rt.Table.Allow(directory.Version(version))
	rt.Log.WarnContext(r.Context(), "an operator allows a table that takes many tenants away", "version", version)
	w.WriteHeader(http.StatusNoContent)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the peer is gone; nobody is left to tell
}
