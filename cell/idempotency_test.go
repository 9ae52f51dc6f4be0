package cell_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
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
	s := slow{inside: make(chan struct{}), goOn: make(chan struct{}), stopped: new(atomic.Bool)}
	h := start(t, func(o *cell.Options) {
		s.Module = o.Modules[1].(*projects.Module)
		o.Modules[1] = s
	})
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

// TestAKeyTakesNoOtherLock: fences and session locks are of one number. The key is made
// for acme and the lock of bravo's fence, as anyone can make them: hashtextextended has
// an inverse.
func TestAKeyTakesNoOtherLock(t *testing.T) {
	t.Parallel()
	const crafted = "crafted-.HyXw5kO7q-I"
	s := slow{inside: make(chan struct{}), goOn: make(chan struct{}), stopped: new(atomic.Bool)}
	h := start(t, func(o *cell.Options) {
		s.Module = o.Modules[1].(*projects.Module)
		o.Modules[1] = s
	})
	var hash, fence int64
	if err := h.store.DB().QueryRow(t.Context(), `SELECT hashtextextended('idempotency:' || $1::bigint || ':' || $2::text, 0), $3::bigint | 8935141660703064064`,
		acme, crafted, bravo).Scan(&hash, &fence); err != nil || hash != fence {
		t.Fatalf("the key has hash %x, the fence of %d has lock %x: %v", hash, bravo, fence, err)
	}
	first := make(chan response)
	go func() { first <- h.send(keyed(crafted, `{"name":"Moon"}`)) }()
	<-s.inside
	var held int
	if err := h.store.DB().QueryRow(t.Context(), `
		SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
		 WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'`).Scan(&held); err != nil || held > 0 {
		t.Errorf("exclusive locks of one number: got %d, %v", held, err)
	}
	h.want(200, request{tenant: bravo, method: "GET", path: "/v1/projects"})
	close(s.goOn)
	if got := <-first; got.status != 201 {
		t.Errorf("first: got %d", got.status)
	}
}

// TestTheFirstThatIsKeptCounts also where the other request's process takes another
// lock, as one of the release before does.
func TestTheFirstThatIsKeptCounts(t *testing.T) {
	t.Parallel()
	s := slow{inside: make(chan struct{}), goOn: make(chan struct{}), stopped: new(atomic.Bool)}
	h := start(t, func(o *cell.Options) {
		s.Module = o.Modules[1].(*projects.Module)
		o.Modules[1] = s
	})
	q := keyed("k1", `{"name":"Moon"}`)
	second := make(chan response)
	go func() { second <- h.send(q) }()
	<-s.inside
	err := h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body)
			VALUES ($1, 'k1', sha256(''), 201, '{}', '')`, acme)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	close(s.goOn)
	r := <-second
	if r.status != 409 || decode[document](t, r).Code != "conflict" || r.header.Get("Retry-After") != "1" {
		t.Errorf("second: got %d %v %s", r.status, r.header, r.body)
	}
	if got := h.position(acme); got != 0 {
		t.Errorf("events: got %d, want none", got)
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

func TestKeysAreSweptAfterTheirTime(t *testing.T) {
	t.Parallel()
	h := start(t)
	for i := range 3 {
		h.want(201, keyed(fmt.Sprint("k", i), `{"name":"Moon"}`))
	}
	err := h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE api.idempotency SET created_at = now() - interval '25 hours' WHERE tenant_id = $1 AND key <> 'k2'`, acme)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := cell.SweepOnce(t.Context(), h.store)
	if err != nil || n != 2 {
		t.Errorf("swept: got %d, %v, want 2", n, err)
	}
	for key, replayed := range map[string]string{"k0": "", "k2": "true"} {
		if got := h.want(201, keyed(key, `{"name":"Moon"}`)).header.Get("Idempotency-Replayed"); got != replayed {
			t.Errorf("%s: Idempotency-Replayed is %q, want %q", key, got, replayed)
		}
	}
}

// TestASweepLooksOncePerTenant and not once per so many rows: each look costs what is there.
func TestASweepLooksOncePerTenant(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, tenant := range []directory.TenantID{acme, bravo, 103} {
		h.createProject(tenant, "Moon") // which admits the tenant
		err := h.store.InTenant(t.Context(), tenant, 1, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body, created_at)
				SELECT $1, n, sha256(''), 201, '{}', '', now() - interval '25 hours' FROM generate_series(1, 2500) AS n`, tenant)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fence.Freeze(t.Context(), h.store.DB(), 103, 1, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	for round, want := range []int64{5000, 0} {
		if n, err := cell.SweepRound(t.Context(), h.store); err != nil || n != want {
			t.Errorf("round %d: swept %d, %v, want %d", round, n, err, want)
		}
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
