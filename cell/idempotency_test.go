package cell_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
)

func keyed(key, body string) request {
	return request{method: "POST", path: "/v1/projects", body: body, header: map[string]string{"Idempotency-Key": key}}
}

func TestARepeatedKeyGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	h := start(t)
	q := keyed("k1", `{"name":"Moon"}`)
	first, second := h.want(201, q), h.want(201, q)
	if string(first.body) != string(second.body) {
		t.Errorf("body: got %s, want %s", second.body, first.body)
	}
	for _, name := range []string{"ETag", "Location", "Content-Type"} {
		if got, want := second.header.Get(name), first.header.Get(name); got != want || want == "" {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if a, b := first.header.Get("Idempotency-Replayed"), second.header.Get("Idempotency-Replayed"); a != "" || b != "true" {
		t.Errorf("Idempotency-Replayed: got %q, then %q", a, b)
	}
	if got, want := h.position(acme), int64(1); got != want {
		t.Errorf("events: got %d, want %d", got, want)
	}

	for name, q := range map[string]request{
		"another body": keyed("k1", `{"name":"Mars"}`),
		"another path": {method: "POST", path: "/v1/projects/x/tasks", body: `{"title":"x"}`, header: q.header},
	} {
		if got := decode[document](t, h.want(422, q)); got.Code != "idempotency-mismatch" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	q.tenant = bravo // the same key is another one
	if got := h.want(201, q); string(got.body) == string(first.body) {
		t.Error("a tenant got another tenant's answer")
	}
}

func TestAFailureLeavesTheKeyFree(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	task := h.createTask(acme, p.ID, "fuel")
	before := h.position(acme)
	q := request{
		method: "POST", path: "/v1/tasks/" + task.ID + "/transition",
		body: `{"to":"done"}`, header: map[string]string{"Idempotency-Key": "k"},
	}
	h.want(409, q)
	if got := h.position(acme); got != before {
		t.Errorf("events: got %d, want %d", got, before)
	}
	q.body = `{"to":"doing"}`
	h.want(200, q)
	if got := decode[projects.Task](t, h.want(200, q)); got.State != projects.Doing || got.Version != 2 {
		t.Errorf("task: got %+v", got)
	}
}

// slow makes the first operation wait, inside of its transaction and before it has
// written anything: the first event of a transaction holds up the tenant's others.
type slow struct {
	*projects.Module
	inside, goOn chan struct{}
	stopped      *atomic.Bool
}

func startSlow(t *testing.T) (*harness, slow) {
	t.Helper()
	s := slow{inside: make(chan struct{}), goOn: make(chan struct{}), stopped: new(atomic.Bool)}
	return start(t, func(o *cell.Options) {
		s.Module = o.Modules[1].(*projects.Module)
		o.Modules[1] = s
	}), s
}

// Routes is the module's, with a stop before its work.
func (s slow) Routes() (http.Handler, []cell.Route) {
	next, routes := s.Module.Routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopped.CompareAndSwap(false, true) {
			close(s.inside)
			select {
			case <-s.goOn:
			case <-r.Context().Done(): // the test has failed
			}
		}
		next.ServeHTTP(w, r)
	}), routes
}

// silent is a module whose handlers write nothing: net/http answers 200 for them.
type silent struct{ *projects.Module }

// Routes are the module's, with nothing behind them.
func (s silent) Routes() (http.Handler, []cell.Route) {
	_, routes := s.Module.Routes()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"1"`) }), routes
}

func TestAnAnswerThatSaysNothingIsKept(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.Modules[1] = silent{o.Modules[1].(*projects.Module)} })
	q := keyed("k1", `{"name":"Moon"}`)
	first, second := h.want(200, q), h.want(200, q)
	if a, b := first.header.Get("ETag"), second.header.Get("ETag"); a != `"1"` || b != a {
		t.Errorf("ETag: got %q, then %q", a, b)
	}
	if got := second.header.Get("Idempotency-Replayed"); got != "true" {
		t.Errorf("Idempotency-Replayed: got %q", got)
	}
}

// twice is a module whose handlers open two transactions and let the first one fail.
type twice struct {
	*projects.Module
	db    *cell.DB
	first func(ctx context.Context, tx *store.Tx) error
}

// Routes are the module's.
func (m twice) Routes() (http.Handler, []cell.Route) {
	_, routes := m.Module.Routes()
	event := func(ctx context.Context, tx *store.Tx) error {
		return outbox.Append(ctx, tx, outbox.New{Type: "com.cellway.test.done.v1", Subject: "test"})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := m.db.InTenant(r.Context(), func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(event(ctx, tx), m.first(ctx, tx))
		})
		if err == nil {
			err = errors.New("the first one has not failed")
		} else {
			err = m.db.InTenant(r.Context(), event)
		}
		if err != nil {
			cell.Problem(w, r, err)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}), routes
}

// TestWhatFailedIsUndone with a key as without one.
func TestWhatFailedIsUndone(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(ctx context.Context, tx *store.Tx) error{
		"an error of the handler's": func(context.Context, *store.Tx) error { return errors.New("no stock") },
		"a statement's": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1 / 0`)
			return err
		},
		"a queued statement's": func(_ context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT 1 / 0`)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, func(o *cell.Options) { o.Modules[1] = twice{o.Modules[1].(*projects.Module), o.DB, first} })
			q := keyed("k1", `{"name":"Moon"}`)
			for i, q := range []request{{method: q.method, path: q.path, body: q.body}, q, q} {
				h.want(201, q)
				if got, want := h.position(acme), int64(min(i+1, 2)); got != want {
					t.Errorf("request %d: got %d events, want %d", i+1, got, want)
				}
			}
		})
	}
}

func TestAKeyInFlightIsAConflict(t *testing.T) {
	t.Parallel()
	h, s := startSlow(t)
	q := keyed("k1", `{"name":"Moon"}`)
	first := make(chan response)
	go func() { first <- h.send(q) }()
	<-s.inside
	r := h.want(409, q)
	if decode[document](t, r).Code != "conflict" || r.header.Get("Retry-After") != "1" {
		t.Errorf("in flight: %v %s", r.header, r.body)
	}
	h.want(201, keyed("k2", `{"name":"Mars"}`)) // another key does not wait
	close(s.goOn)
	if got := <-first; got.status != 201 {
		t.Errorf("first: got %d", got.status)
	}
	if got := h.want(201, q).header.Get("Idempotency-Replayed"); got != "true" {
		t.Errorf("afterwards: Idempotency-Replayed is %q", got)
	}
}

func TestManyAtOnceHaveOneEffect(t *testing.T) {
	t.Parallel()
	h := start(t)
	var wg sync.WaitGroup
	results := make([]response, 20)
	for i := range results {
		wg.Go(func() { results[i] = h.send(keyed("k1", `{"name":"Moon"}`)) })
	}
	wg.Wait()
	seen := map[int]int{}
	for _, r := range results {
		seen[r.status]++
	}
	if seen[201] == 0 || seen[201]+seen[409] != len(results) {
		t.Errorf("statuses: got %v", seen)
	}
	if got, want := h.position(acme), int64(1); got != want {
		t.Errorf("events: got %d, want %d", got, want)
	}
}

func TestAnAnswerIsKeptAsItWas(t *testing.T) {
	t.Parallel()
	h := start(t)
	q := keyed("k1", `{"name":"Moon"}`)
	p := decode[projects.Project](t, h.want(201, q))
	h.want(200, request{method: "PATCH", path: "/v1/projects/" + p.ID, body: `{"name":"Mars"}`, header: map[string]string{"If-Match": "*"}})
	var again projects.Project
	if err := json.Unmarshal(h.want(201, q).body, &again); err != nil || again != p {
		t.Errorf("replay: got %+v, %v, want %+v", again, err, p)
	}
}
