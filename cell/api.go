package cell

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// An API is the module that every cell has: the table behind Idempotency-Key, and
// the operations of the contract tagged "cell".
type API struct{ db *DB }

// NewAPI makes the module.
func NewAPI(db *DB) *API { return &API{db: db} }

// Name is "api".
func (a *API) Name() string { return "api" }

// Migrations are those of the schema api.
func (a *API) Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // impossible: the path is a constant and embedded
	}
	return sub
}

// Tables are the module's tenant tables.
func (a *API) Tables() []string { return []string{"api.idempotency"} }

// Consumers are none.
func (a *API) Consumers() []Consumer { return nil }

// Jobs are none.
func (a *API) Jobs() []JobKind { return nil }

// Routes serves GET /v1/events/position.
func (a *API) Routes() (http.Handler, []Route) {
	return http.HandlerFunc(a.position), []Route{{Method: http.MethodGet, Path: "/v1/events/position"}}
}

// position answers how far the tenant's events are written and published.
func (a *API) position(w http.ResponseWriter, r *http.Request) {
	var pos outbox.Position
	err := a.db.InTenant(r.Context(), func(ctx context.Context, tx *store.Tx) (err error) {
		pos, err = outbox.ReadPosition(ctx, tx)
		return err
	})
	if err != nil {
		Problem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int64{"last": pos.Last, "published": pos.Published}) // the peer is gone
}
