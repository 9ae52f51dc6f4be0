package telemetry

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/infra/run"
)

// TestTheLevelIsChangedWhileAProcessRuns by its admin listener, and each change is told,
// from whatever level to whatever level.
func TestTheLevelIsChangedWhileAProcessRuns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tel := &Telemetry{Level: new(slog.LevelVar), Registry: prometheus.NewRegistry()}
	tel.Log = NewLog(&out, tel.Level, "cell", "c1")
	h := tel.Admin(run.NewAdmin())
	for _, tt := range []struct {
		method, query string
		status        int
		answer        string
		told          bool // a line says so
	}{
		{"GET", "", 200, "INFO\n", false},
		{"POST", "?level=debug", 200, "DEBUG\n", true},
		{"GET", "", 200, "DEBUG\n", false},
		{"POST", "?level=error", 200, "ERROR\n", true},
		{"POST", "?level=error", 200, "ERROR\n", false}, // nothing changes
		{"POST", "?level=warn", 200, "WARN\n", true},
		{"POST", "?level=loud", 400, "level must be debug, info, warn or error\n", false},
		{"POST", "?level=error%2B1000", 400, "level must be debug, info, warn or error\n", false},
		{"POST", "", 400, "level must be debug, info, warn or error\n", false},
		{"DELETE", "", 405, "Method Not Allowed\n", false},
		{"POST", "?level=INFO", 200, "INFO\n", true},
	} {
		out.Reset()
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(tt.method, "/log-level"+tt.query, http.NoBody))
		if rec.Code != tt.status || rec.Body.String() != tt.answer {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.query, rec.Code, rec.Body, tt.status, tt.answer)
		}
		if got := lines(t, &out); (len(got) == 1) != tt.told || len(got) > 1 {
			t.Errorf("%s %s: got the lines %v, want one: %v", tt.method, tt.query, got, tt.told)
		}
	}
}

// TestAWebPageChangesNothingAtAnAdminListener that an operator's browser reaches.
func TestAWebPageChangesNothingAtAnAdminListener(t *testing.T) {
	t.Parallel()
	tel := &Telemetry{Level: new(slog.LevelVar), Registry: prometheus.NewRegistry()}
	tel.Log = NewLog(&bytes.Buffer{}, tel.Level, "cell", "c1")
	a, changed := run.NewAdmin(), 0
	a.Handle("POST /change", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { changed++ }))
	h := tel.Admin(a)
	for _, path := range []string{"/log-level?level=error", "/change"} {
		for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			req := httptest.NewRequest(http.MethodPost, path, http.NoBody)
			req.Header.Set(header, value)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if rec.Code != http.StatusForbidden {
				t.Errorf("%s with %s: got %d, want 403", path, header, rec.Code)
			}
		}
	}
	if changed != 0 || tel.Level.Level() != slog.LevelInfo {
		t.Errorf("changed %d times, level %s", changed, tel.Level.Level())
	}
}
