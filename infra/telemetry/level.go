package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/cellway/cellway/infra/run"
)

// levels are what a log's level may be: slog also takes what is silent, as error+1000.
var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// Admin is a's pages with the metrics, and /log-level: GET tells from which level on lines
// are written, POST ?level=debug changes it until the process ends.
// What changes something is refused to a web page of elsewhere, which an operator's browser shows.
func (t *Telemetry) Admin(a *run.Admin) http.Handler {
	tell := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, t.Level.Level()) }
	a.Handle("GET /log-level", http.HandlerFunc(tell))
	a.Handle("POST /log-level", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, ok := levels[strings.ToLower(r.URL.Query().Get("level"))]
		if !ok {
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
	return http.NewCrossOriginProtection().Handler(a.Handler(t.Registry))
}
