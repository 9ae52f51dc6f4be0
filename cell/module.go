// Package cell serves one cell's HTTP API and defines how domain code plugs in.
//
// A request reaches a [Module] only with a checked assertion: the tenant comes
// from there and never from the request's own words. A module touches data only
// through [DB.InTenant], which enters the fence first.
// What may be lost goes into Redis: into a [Cache], or, if it is to move with the
// tenant, into a keep.Keep.
package cell

import (
	"io/fs"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/worker"
)

// A Module is one bounded context in a cell: its routes, its tables, its events.
// It never imports another module: it publishes events, or asks through an
// interface that it declares itself. Only cell/cmd/cell knows them all.
type Module interface {
	// Name is the module's schema in Postgres and its label in metrics.
	Name() string
	// Migrations are goose files, applied as the owner of the schema; nil of a module
	// that has no tables. One that waits 100 ms for a lock is rolled back and tried again,
	// so that no tenant waits behind it (pg.BoundLocks); one without a transaction, which cannot be, sets
	// lock_timeout itself, and back. One that changes tenants' rows says in cell.tenant whose,
	// tenant by tenant; no move notes that, so moves under way end, and none begins between
	// cells of which one has it.
	Migrations() fs.FS
	// Tables are the tenant tables, "schema.table", parents before children. Each
	// has PRIMARY KEY (tenant_id, ...), forced row security and the guard trigger.
	Tables() []string
	// Routes is the HTTP handler for the operations of the module's contract, and
	// the patterns (method and path template) that it serves. The handler answers
	// errors with Problem and finds the tenant through DB.InTenant only. What has to be done
	// whole is one transaction: between two of them the tenant may be moved.
	Routes() (http.Handler, []Route)
	// Consumers are the reactions to events.
	Consumers() []Consumer
	// Jobs are the kinds of work that the module does later: what it enqueues with
	// jobs.Enqueue or plans with jobs.Plan, in the transaction that asks for it.
	Jobs() []JobKind
}

// A Route is one operation, as the contract in openapi.yaml names it.
type Route struct {
	Method string // GET, POST, ...
	Path   string // /v1/projects/{project}
}

// RoutesOf are the routes of a router that was filled from the contract (oapi-codegen's
// gorilla-server).
func RoutesOf(router *mux.Router) []Route {
	var routes []Route
	_ = router.Walk(func(r *mux.Route, _ *mux.Router, _ []*mux.Route) error { // the walker never fails
		path, _ := r.GetPathTemplate() // both are set on every generated route
		methods, _ := r.GetMethods()
		for _, method := range methods {
			routes = append(routes, Route{Method: method, Path: path})
		}
		return nil
	})
	return routes
}

// A Consumer reacts to events of one tenant in order, once each.
type Consumer = worker.Consumer

// A JobKind is a kind of work that is done later, once.
type JobKind = jobs.Kind
