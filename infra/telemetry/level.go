package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/cellway/cellway/infra/run"
)

// Admin is a's pages with the metrics, and /log-level: GET tells from which level on lines
// are written, POST ?level=debug changes it until the process ends.
func (t *Telemetry) Admin(a *run.Admin) http.Handler {
	tell := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, t.Level.Level()) }
	a.Handle("GET /log-level", http.HandlerFunc(tell))
	a.Handle("POST /log-level", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var to slog.Level
		if err := to.UnmarshalText([]byte(r.FormValue("level"))); err != nil {
			http.Error(w, "level must be debug, info, warn or error", http.StatusBadRequest)
			return
		}
		if from := t.Level.Level(); from != to {
			t.Level.Set(min(from, slog.LevelInfo)) // for its own line, whatever it was or will be
			t.Log.InfoContext(r.Context(), "log level changed", "from", from, "to", to)
			t.Level.Set(to)
		}
		tell(w, r)
	}))
	return a.Handler(t.Registry)
}
