package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// serveOnce serves one request through the middleware and gives the answer and
// the log lines.
func serveOnce(t *testing.T, trust bool, h http.HandlerFunc, change func(*http.Request)) (*httptest.ResponseRecorder, []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(contextHandler{slog.NewJSONHandler(&out, nil)})
	req := httptest.NewRequest(http.MethodGet, "/v1/projects?secret=1", nil)
	if change != nil {
		change(req)
	}
	rec := httptest.NewRecorder()
	HTTP(log, "cell", trust, h).ServeHTTP(rec, req)
	return rec, lines(t, &out)
}

func lines(t *testing.T, out io.Reader) []map[string]any {
	t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(out); ; {
		var line map[string]any
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
}

func TestOneLinePerRequest(t *testing.T) {
	t.Parallel()
	rec, got := serveOnce(t, false, func(w http.ResponseWriter, r *http.Request) {
		req := RequestFrom(r.Context())
		req.Tenant, req.Cell, req.Epoch, req.UserHash = "7", "c1", 3, HashUser("alice")
		req.Route, req.Held = "/v1/projects", time.Millisecond
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "12345")
	}, nil)
	if len(got) != 1 {
		t.Fatalf("got %d lines, want 1", len(got))
	}
	for key, want := range map[string]any{
		"msg": "request", "level": "INFO", "method": "GET", "path": "/v1/projects", "status": 201.0, "bytes": 5.0, "tenant": "7",
		"cell": "c1", "epoch": 3.0, "route": "/v1/projects", "held": 1e6, "user_hash": HashUser("alice"),
		"request_id": rec.Header().Get(RequestIDHeader),
	} {
		if got[0][key] != want {
			t.Errorf("%s: got %v, want %v", key, got[0][key], want)
		}
	}
	if _, ok := got[0]["duration"].(float64); !ok {
		t.Errorf("duration is %v, want a number", got[0]["duration"])
	}
	if strings.Contains(got[0]["user_hash"].(string), "alice") {
		t.Error("the user's name is in the log")
	}
}

func TestWhatIsNotKnownIsNotLogged(t *testing.T) {
	t.Parallel()
	_, got := serveOnce(t, false, func(http.ResponseWriter, *http.Request) {}, nil)
	for _, key := range []string{"tenant", "cell", "epoch", "user_hash", "route", "held", "error"} {
		if v, there := got[0][key]; there {
			t.Errorf("%s is %v, want it left out", key, v)
		}
	}
	if got[0]["status"] != 200.0 {
		t.Errorf("got status %v, want 200 where the handler sets none", got[0]["status"])
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sent string
		trust      bool
		kept       bool
	}{
		{"a caller's, trusted", "abc-123", true, true},
		{"a caller's, not trusted", "abc-123", false, false},
		{"too long", strings.Repeat("a", 65), true, false},
		{"with a line break", "a\nb", true, false},
		{"with a quote", `a"b`, true, false},
		{"none", "", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var seen, header string
			rec, got := serveOnce(t, tt.trust, func(_ http.ResponseWriter, r *http.Request) {
				seen, header = RequestID(r.Context()), r.Header.Get(RequestIDHeader)
			}, func(r *http.Request) { r.Header[RequestIDHeader] = []string{tt.sent} })
			if (seen == tt.sent) != tt.kept || seen == "" {
				t.Errorf("got %q, sent %q, want it kept: %v", seen, tt.sent, tt.kept)
			}
			for where, id := range map[string]any{"answer": rec.Header().Get(RequestIDHeader), "request": header, "log": got[0]["request_id"]} {
				if id != seen {
					t.Errorf("%s has %v, want %s", where, id, seen)
				}
			}
		})
	}
}

func TestProblemLogsTheCauseAndDoesNotSendIt(t *testing.T) {
	t.Parallel()
	rec, got := serveOnce(t, false, func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, "cell", problem.Wrap(problem.Unavailable, errors.New("no route to 10.0.0.7"), "try again"))
	}, nil)
	if rec.Code != 503 || strings.Contains(rec.Body.String(), "10.0.0.7") {
		t.Errorf("got %d %s, want 503 without the cause", rec.Code, rec.Body)
	}
	if got[0]["error"] != "try again: no route to 10.0.0.7" || got[0]["level"] != "ERROR" {
		t.Errorf("got %v at %v, want the cause as an error", got[0]["error"], got[0]["level"])
	}
}

func TestAClientsErrorIsNoErrorOfOurs(t *testing.T) {
	t.Parallel()
	_, got := serveOnce(t, false, func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, "cell", problem.New(problem.NotFound, "no project"))
	}, nil)
	if got[0]["level"] != "INFO" || got[0]["error"] != "no project" {
		t.Errorf("got %v at %v, want the error at INFO", got[0]["error"], got[0]["level"])
	}
}

// TestALongErrorIsCut: it would take the place of other lines in the log (F35).
func TestALongErrorIsCut(t *testing.T) {
	t.Parallel()
	_, got := serveOnce(t, false, func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, "cell", problem.New(problem.Invalid, "%s", strings.Repeat("é", 100_000)))
	}, nil)
	text, _ := got[0]["error"].(string)
	if len(text) > mostError+3 || !strings.HasSuffix(text, "é…") {
		t.Errorf("got %d bytes that end with %q, want %d and a sign that there was more", len(text), text[len(text)-5:], mostError)
	}
}

func TestPanicIsA500AndItsStackStaysInTheLog(t *testing.T) {
	t.Parallel()
	rec, got := serveOnce(t, false, func(http.ResponseWriter, *http.Request) { panic("index out of range") }, nil)
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "index") || !strings.Contains(rec.Body.String(), `"source":"cell"`) {
		t.Errorf("got %d %s, want a bare 500", rec.Code, rec.Body)
	}
	text, _ := got[0]["error"].(string)
	if !strings.Contains(text, "panic: index out of range") || !strings.Contains(text, "http_test.go") {
		t.Errorf("got %q, want the panic and its stack", text)
	}
}

func TestPanicAfterTheAnswerBeganCutsIt(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(HTTP(slog.New(slog.DiscardHandler), "cell", false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("later")
	})))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("got %q as a whole answer, want it cut", body)
	}
}

// TestWhoLeavesIsNoErrorOfOurs: an answer that is cut is one, unless its client has left.
func TestWhoLeavesIsNoErrorOfOurs(t *testing.T) {
	t.Parallel()
	for left, want := range map[bool]string{false: "ERROR", true: "INFO"} {
		ctx, leave := context.WithCancel(t.Context())
		if left {
			leave()
		}
		var out bytes.Buffer
		h := HTTP(slog.New(slog.NewJSONHandler(&out, nil)), "router", false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		func() {
			defer func() { _ = recover() }() // as the server does
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/stream", nil))
		}()
		leave()
		if got := lines(t, &out); len(got) != 1 || got[0]["level"] != want || got[0]["error"] == nil {
			t.Errorf("the client has left: %v: got %v", left, got)
		}
	}
}

func TestStatusWriterPassesInformationalStatuses(t *testing.T) {
	t.Parallel()
	w := &StatusWriter{ResponseWriter: httptest.NewRecorder()}
	w.WriteHeader(http.StatusEarlyHints)
	if w.Status() != 200 {
		t.Errorf("got %d after 103, want 200: the answer is still to come", w.Status())
	}
	w.WriteHeader(http.StatusNoContent)
	if w.Status() != 204 {
		t.Errorf("got %d, want 204", w.Status())
	}
}

func TestRequestFromNothing(t *testing.T) {
	t.Parallel()
	if RequestFrom(context.Background()) == nil || RequestID(context.Background()) != "" || HashUser("") != "" {
		t.Error("want an empty request, no id and no hash")
	}
}
