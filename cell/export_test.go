package cell

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/telemetry"
)

// SweepOnce is what Sweeper.Run does each time.
func SweepOnce(ctx context.Context, s *store.Store) (int64, error) {
	return NewSweeper(s, slog.Default()).runOnce(ctx)
}

// SmallCompactor is a Compactor that looks at tenants with few notes.
func SmallCompactor(s *store.Store, least int64) *Compactor {
	return &Compactor{store: s, log: slog.Default(), least: least, most: 2 * least}
}

// RunOnce is what Run does each time.
func (c *Compactor) RunOnce(ctx context.Context) (int64, error) { return c.runOnce(ctx) }

// Endpoints joins the modules' routes with the contract and counts them.
func Endpoints(modules ...Module) (int, error) {
	ops, err := operations()
	if err != nil {
		return 0, err
	}
	all, err := endpoints(ops, modules)
	return len(all), err
}

// Unlisted serves a POST whose contract does not name the Idempotency-Key.
func Unlisted(next http.Handler) http.Handler {
	op := openapi3.NewOperation()
	h := (&Server{}).operation(endpoint{route: Route{Method: "POST", Path: "/"}, next: next, op: &routers.Route{
		Spec: &openapi3.T{}, Path: "/", PathItem: &openapi3.PathItem{Post: op}, Method: "POST", Operation: op,
	}})
	return telemetry.HTTP(slog.New(slog.DiscardHandler), "test", true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(withCall(r.Context(), &call{})))
	}))
}
