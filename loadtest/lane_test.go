package loadtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

func timeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func never(context.Context) (bool, error) { return false, nil }

// A shaky server keeps projects and tasks, and fails as a dying cell does: every
// third request is cut off after it took effect. With broken set it forgets the
// Idempotency-Keys and does repeated writes again.
type shaky struct {
	mu     sync.Mutex
	broken bool
	calls  int
	byKey  map[string]map[string]any
	rows   []map[string]any // projects and tasks, in order
}

func (s *shaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	var answer any
	switch {
	case r.Method == http.MethodPost:
		answer = s.post(r)
	case strings.HasSuffix(r.URL.Path, "/tasks"):
		answer = map[string]any{"items": s.find("project", strings.Split(r.URL.Path, "/")[3])}
	case r.URL.Path == "/v1/projects":
		answer = map[string]any{"items": s.find("project", nil)}
	case strings.HasPrefix(r.URL.Path, "/v1/tasks/"):
		answer = s.find("id", strings.Split(r.URL.Path, "/")[3])[0]
	default:
		answer = map[string]any{}
	}
	if r.URL.Query().Get("limit") != fmt.Sprint(pageSize) && s.calls%3 == 0 { // the check at the end is left alone
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *shaky) find(name string, value any) []map[string]any {
	out := []map[string]any{}
	for _, row := range s.rows {
		if row[name] == value {
			out = append(out, row)
		}
	}
	return out
}

func (s *shaky) post(r *http.Request) map[string]any {
	key := r.Header.Get("Idempotency-Key")
	if old, ok := s.byKey[key]; ok && !s.broken {
		return old
	}
	var row map[string]any
	_ = json.NewDecoder(r.Body).Decode(&row)
	if to, ok := row["to"]; ok {
		t := s.find("id", strings.Split(r.URL.Path, "/")[3])[0]
		t["state"] = to
		row = map[string]any{"id": t["id"], "state": to}
	} else {
		row["id"] = fmt.Sprintf("id_%d", len(s.rows))
		if strings.HasSuffix(r.URL.Path, "/tasks") {
			row["project"], row["state"] = strings.Split(r.URL.Path, "/")[3], "todo"
		}
		s.rows = append(s.rows, row)
	}
	s.byKey[key] = row
	return row
}

// workOn lets a tenant work against s until it has done a hundred writes.
func workOn(t *testing.T, s *shaky) (*Tenant, *Recorder, Check) {
	t.Helper()
	s.byKey = map[string]map[string]any{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	ctx, cancel := timeout(t, time.Minute)
	defer cancel()

	rec := &Recorder{}
	tenant := Adopt(NewEndpoint(srv.URL), rec, directory.Tenant{Slug: "acme", Placement: directory.Placement{Cell: "c1"}}, "token", Plan{Seed: 7, Lanes: 2})
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- tenant.Work(ctx, stop) }()
	err := Until(ctx, "a hundred requests", time.Millisecond, func(context.Context) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.calls > 100, nil
	})
	close(stop)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c, err := tenant.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return tenant, rec, c
}

func TestCutAnswersLoseNothingWhereKeysCount(t *testing.T) {
	t.Parallel()
	tenant, rec, c := workOn(t, &shaky{})
	if !c.OK() || c.Acknowledged == 0 || c.Acknowledged != len(tenant.Writes()) {
		t.Errorf("check: got %+v", c)
	}
	cells := rec.Cells()
	if len(cells) != 1 || cells[0].Cell != "c1" || cells[0].Errors == 0 {
		t.Errorf("the cut answers were not counted: %+v", cells)
	}
}

func TestCheckFindsAServerThatForgetsKeys(t *testing.T) {
	t.Parallel()
	if _, _, c := workOn(t, &shaky{broken: true}); c.OK() || c.Doubled+c.Unknown == 0 {
		t.Errorf("repeated writes were done twice and the check says %+v", c)
	}
}

// TestSameSeedSameWork holds that what a lane does follows from the seed alone.
func TestSameSeedSameWork(t *testing.T) {
	t.Parallel()
	names := func(seed uint64) string {
		tenant := Adopt(NewEndpoint("http://x"), &Recorder{}, directory.Tenant{Slug: "acme"}, "", Plan{Seed: seed})
		l, out := tenant.lanes[0], ""
		for range 20 {
			out += fmt.Sprint(l.rng.IntN(100), " ")
		}
		return out
	}
	if one, again, other := names(1), names(1), names(2); one != again || one == other {
		t.Error("the seed does not decide")
	}
}
