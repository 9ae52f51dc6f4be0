// Package projects is the bounded context of projects and their tasks.
//
// A task goes through a small workflow. Every change is an event, written with it.
// The module's own consumer turns the events back into a list of what happened,
// each exactly once and in order, which is also how the path from a commit to a
// consumer's effect is watched from outside.
package projects

//go:generate oapi-codegen -config oapi-codegen.yaml ../openapi.yaml

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/cellway/cellway/cell"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A Module is the context as a cell takes it in.
type Module struct{ handlers *handlers }

var _ cell.Module = (*Module)(nil)

// New makes the module on the cell's database and cache. A process that only
// migrates or consumes may leave both nil.
func New(db *cell.DB, cache *cell.Cache) *Module {
	return &Module{handlers: &handlers{db: db, cache: cache}}
}

// Name is "projects".
func (m *Module) Name() string { return "projects" }

// Migrations are those of the schema projects.
func (m *Module) Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // impossible: the path is a constant and embedded
	}
	return sub
}

// Tables are the module's tenant tables.
func (m *Module) Tables() []string {
	return []string{"projects.projects", "projects.tasks", "projects.activity"}
}

// Consumers are the list of what happened to the tenant: every event, so that it
// has no gaps.
func (m *Module) Consumers() []cell.Consumer {
	return []cell.Consumer{{Name: "activity", Handle: recordActivity}}
}

// Jobs are a task that falls due, and the daily summary.
func (m *Module) Jobs() []cell.JobKind {
	return []cell.JobKind{{Name: taskDueJob, Handle: taskFallsDue}, {Name: summaryJob, Handle: summarize}}
}

// Routes serves the operations tagged "projects".
func (m *Module) Routes() (http.Handler, []cell.Route) {
	strict := NewStrictHandlerWithOptions(m.handlers, nil, StrictHTTPServerOptions{
		RequestErrorHandlerFunc: cell.BadRequest, ResponseErrorHandlerFunc: cell.Problem,
	})
	router := mux.NewRouter()
	HandlerWithOptions(strict, GorillaServerOptions{BaseRouter: router, ErrorHandlerFunc: cell.BadRequest})
	return router, cell.RoutesOf(router)
}
