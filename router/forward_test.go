package router_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

func TestEachSourceReachesTheOwningCell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	for name, a := range map[string]answer{
		"host":   w.do("GET", "bolt."+base, "/v1/x?b=;&a=%zz", ""),
		"path":   w.do("GET", base, "/t/bolt/v1/x", ""),
		"header": w.do("GET", base, "/v1/x", "", "X-Tenant", "bolt"),
		"cookie": w.do("GET", base, "/v1/x", "", "Cookie", "tenant=bolt"),
		"token":  w.do("GET", base, "/v1/x", "", "Authorization", w.token(2)),
	} {
		if a.StatusCode != 200 || !strings.HasPrefix(a.body, "c2 GET ") {
			t.Errorf("%s: got %d %q, want an answer of c2", name, a.StatusCode, a.body)
		}
	}
	if a := w.do("POST", "WWW.acme.com:80", "/a%2Fb/../c?x=1;y=%zz&&z", "hi"); a.code() != problem.Invalid {
		t.Errorf("dots in path: got %d %s", a.StatusCode, a.body)
	}
	if a := w.do("POST", "WWW.acme.com:80", "/a%2Fb/c?x=1;y=%zz&&z", "hi"); a.body != "c1 POST WWW.acme.com:80 /a%2Fb/c?x=1;y=%zz&&z hi" {
		t.Errorf("the cell saw %q", a.body)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	required := newWorld(t, twoCells(), func(o *router.Options, _ *pool.Limits) { o.AuthRequired = true })
	w.want(w.do("GET", "nobody."+base, "/", ""), 404, problem.TenantNotFound)
	w.want(w.do("GET", "stone."+base, "/", ""), 403, problem.TenantSuspended)
	w.want(w.do("GET", "acme."+base, "/t/bolt/", ""), 400, problem.TenantConflict)
	w.want(w.do("GET", "acme."+base, "/", "", "cell_Assertion", "x"), 400, problem.ReservedHeader)
	w.want(w.do("GET", "acme."+base, "/", "", "X-Tenant", "A"), 400, problem.Invalid)
	for _, tt := range []struct{ method, host, path, allow string }{
		{"TRACE", "acme." + base, "/", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}, {"GET", base, "/signup", "POST"},
	} {
		a := w.do(tt.method, tt.host, tt.path, "")
		w.want(a, 405, problem.MethodNotAllowed)
		if got := a.Header.Get("Allow"); got != tt.allow {
			t.Errorf("%s %s: Allow is %q, want %q", tt.method, tt.path, got, tt.allow)
		}
	}
	w.want(w.do("POST", "acme."+base, "/", strings.Repeat("x", 1<<20+1)), 413, problem.TooLarge)
	w.want(w.do("GET", base, "/v1/projects", ""), 400, problem.Invalid)
	w.want(w.do("POST", base, "/signup", "{}"), 404, problem.NotFound)
	if a := w.do("GET", base, "/", ""); a.StatusCode != 200 || !strings.Contains(a.body, "cellway") {
		t.Errorf("hello: got %d %s", a.StatusCode, a.body)
	}
	a := w.do("GET", "lost."+base, "/", "")
	w.want(a, 503, problem.CellUnavailable)
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("got Retry-After %q, want 1", a.Header.Get("Retry-After"))
	}

	a = required.do("GET", "acme."+base, "/", "")
	required.want(a, 401, problem.Unauthenticated)
	if a.Header.Get("Www-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
	required.want(required.do("GET", "stone."+base, "/", ""), 401, problem.Unauthenticated)
	required.want(required.do("GET", "acme."+base, "/", "", "Authorization", w.token(1)), 401, problem.Unauthenticated) // another key
	required.want(required.do("GET", "acme."+base, "/", "", "Authorization", required.token(2)), 400, problem.TenantConflict)
	if a := required.do("GET", "acme."+base, "/", "", "Authorization", required.token(1)); a.StatusCode != 200 {
		t.Errorf("with a token: got %d %s", a.StatusCode, a.body)
	}
}

// TestWithoutATableNobodyIsUnknown: a router that has no table yet answers 503;
// a 404 would say that the tenant is gone.
func TestWithoutATableNobodyIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *router.Options, _ *pool.Limits) { o.Table = table.New() })
	w.want(w.do("GET", base, "/v1/x", "", "Authorization", w.token(1)), 503, problem.Unavailable)
	w.want(w.do("GET", "acme."+base, "/v1/x", ""), 503, problem.Unavailable)
	w.want(w.do("GET", base, "/v1/x", "", "X-Tenant", "AC ME"), 400, problem.Invalid)
}

func TestABodyWithoutALengthIsBoundedToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	r := w.request(t.Context(), "POST", "acme."+base, "/", "")
	r.Body = io.NopCloser(io.LimitReader(zeros{}, 2<<20))
	w.want(w.send(r), 413, problem.TooLarge)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestAHeadTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	if a := w.do("GET", "acme."+base, "/", "", "X-Big", strings.Repeat("x", 64<<10)); a.StatusCode != 431 {
		t.Errorf("got %d, want 431", a.StatusCode)
	}
}

func TestWhatTheCellIsTold(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	cell := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		w.Header().Set("Cell-Secret", "x")
		w.Header().Set("X-Request-Id", "the cell's")
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	a := w.do("GET", "acme."+base, "/v1", "", "X-Forwarded-For", "1.2.3.4", "X_forwarded_for", "1.2.3.4", "Forwarded", "for=1.2.3.4",
		"X-Real-Ip", "1.2.3.4", "X-Forwarded-Proto", "https", "Connection", "X-Hop", "X-Hop", "1", "X-Request-Id", "abc",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r := <-got
	if a.Header.Get("X-Request-Id") != "abc" || len(a.Header.Values("X-Request-Id")) != 1 || a.Header.Get("Cell-Secret") != "" {
		t.Errorf("the client got %v", a.Header)
	}
	as, err := w.assertion.For(token.OfCell("c1")).CheckAssertion(r.Header.Get(token.AssertionHeader), "c1", time.Now())
	if err != nil || as.Tenant != 1 || as.Epoch != 1 {
		t.Errorf("assertion: got %+v, %v", as, err)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "acme." + base, "Forwarded": "", "X-Real-Ip": "",
		"X_forwarded_for": "", "X-Hop": "", "X-Request-Id": "abc",
	} {
		if got := strings.Join(r.Header.Values(name), ","); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestTheTraceGoesOn(t *testing.T) {
	propagator := otel.GetTextMapPropagator()
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTextMapPropagator(propagator) })
	got := make(chan string, 1)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Traceparent") })
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	a := w.do("GET", "acme."+base, "/", "", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	for who, parent := range map[string]string{"cell": <-got, "client": a.Header.Get("Traceparent")} {
		if !strings.HasPrefix(parent, "00-0af7651916cd43dd8448eb211c80319c-") {
			t.Errorf("%s: got traceparent %q of another trace", who, parent)
		}
	}
}

func TestStaleEpochIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"no body": 0, "small body": 1000, "the largest that is kept": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w *world
			c1 := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				stale(rw, "moved")
			})
			w = newWorld(t, map[directory.CellID]http.Handler{"c1": c1, "c2": named("c2")}, func(o *router.Options, _ *pool.Limits) {
				o.Refresh = func(context.Context) error {
					w.placed(place(1, "c2", 2, directory.Active), "acme")
					return nil
				}
			})
			body := strings.Repeat("x", size)
			a := w.do("POST", "acme."+base, "/p", body)
			if a.StatusCode != 200 || a.body != "c2 POST acme."+base+" /p "+body {
				t.Errorf("got %d with %d bytes, want c2's answer", a.StatusCode, len(a.body))
			}
		})
	}
}

// TestATenantIsHeldHoweverLongItsBodyTook: the time that a request waits for another owner begins
// when the cell has refused it, and not before its client has sent the body.
func TestATenantIsHeldHoweverLongItsBodyTook(t *testing.T) {
	t.Parallel()
	const hold = 300 * time.Millisecond
	var w *world
	c1 := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		stale(rw, "moved")
	})
	w = newWorld(t, map[directory.CellID]http.Handler{"c1": c1, "c2": named("c2")}, func(o *router.Options, _ *pool.Limits) {
		o.Hold.Time = hold
		o.Refresh = func(context.Context) error {
			w.placed(place(1, "c2", 2, directory.Active), "acme")
			return nil
		}
	})
	body, rest := io.Pipe()
	go func() {
		_, _ = io.WriteString(rest, "slow ")
		time.Sleep(3 * hold) // what is slow is the matter of the test
		_, _ = io.WriteString(rest, "body")
		_ = rest.Close()
	}()
	r := w.request(t.Context(), "POST", "acme."+base, "/p", "")
	r.Body, r.ContentLength = body, -1
	if a := w.send(r); a.StatusCode != 200 || a.body != "c2 POST acme."+base+" /p slow body" {
		t.Errorf("got %d %q, want c2's answer", a.StatusCode, a.body)
	}
}

func TestStaleTwiceIsMoving(t *testing.T) {
	t.Parallel()
	var w *world
	var calls atomic.Int64
	cell := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		stale(rw, "frozen")
	})
	w = newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": cell}, func(o *router.Options, _ *pool.Limits) {
		o.Refresh = func(context.Context) error {
			w.placed(place(1, "c2", 2, directory.Active), "acme")
			return nil
		}
	})
	a := w.do("GET", "acme."+base, "/", "")
	w.want(a, 503, problem.TenantMoving)
	if calls.Load() != 2 || a.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d calls, Retry-After %q, want 2 and 1", calls.Load(), a.Header.Get("Retry-After"))
	}
}

func TestStaleWithoutANewerTableIsMoving(t *testing.T) {
	t.Parallel()
	cell := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { stale(rw, "moved") })
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, func(o *router.Options, _ *pool.Limits) {
		o.Hold.Time = 50 * time.Millisecond
		o.Refresh = func(context.Context) error { return errors.New("directory is dead") }
	})
	w.want(w.do("GET", "acme."+base, "/", ""), 503, problem.TenantMoving)
}

func TestALargeBodyIsNotSentTwice(t *testing.T) {
	t.Parallel()
	c1 := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		stale(rw, "moved")
	})
	var second atomic.Int64
	c2 := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { second.Add(1) })
	var w *world
	w = newWorld(t, map[directory.CellID]http.Handler{"c1": c1, "c2": c2}, func(o *router.Options, _ *pool.Limits) {
		o.Refresh = func(context.Context) error {
			w.placed(place(1, "c2", 2, directory.Active), "acme")
			return nil
		}
	})
	w.want(w.do("POST", "acme."+base, "/", strings.Repeat("x", 64<<10+1)), 503, problem.TenantMoving)
	if second.Load() != 0 {
		t.Error("the new owner got a body of which part was gone")
	}
}

func TestACellThatIsDeadIsUnavailable(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(nil)
	dead.Close()
	w := newWorld(t, twoCells(), nil)
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: "c1", Address: dead.URL, State: directory.Ready}}})
	w.want(w.do("POST", "acme."+base, "/", "x"), 503, problem.CellUnavailable)
	if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
		t.Errorf("the other cell: got %d", a.StatusCode)
	}
}

func TestACellThatNeverAnswers(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": hang, "c2": named("c2")}, func(o *router.Options, _ *pool.Limits) {
		o.CellTimeout = 100 * time.Millisecond
	})
	t.Cleanup(func() { close(over) })
	a := w.do("GET", "acme."+base, "/", "")
	w.want(a, 503, problem.CellUnavailable)
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestASlowCellUsesUpItsOwnPlacesOnly(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	arrived := make(chan struct{}, 10)
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-over
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": slow, "c2": named("c2")}, func(_ *router.Options, l *pool.Limits) {
		l.Requests, l.Wait = 2, 20*time.Millisecond
	})
	w.placed(place(5, "c1", 1, directory.Active), "dyna")
	w.placed(place(6, "c1", 1, directory.Active), "evan")
	answers := make(chan answer, 2)
	for _, slug := range []string{"acme.", "dyna."} {
		go func() { answers <- w.do("GET", slug+base, "/", "") }()
	}
	<-arrived
	<-arrived
	w.want(w.do("GET", "evan."+base, "/", ""), 503, problem.CellUnavailable)
	for range 5 {
		if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
			t.Errorf("the other cell: got %d %s", a.StatusCode, a.body)
		}
	}
	close(over)
	for range 2 {
		if a := <-answers; a.StatusCode != 200 {
			t.Errorf("a request under way: got %d", a.StatusCode)
		}
	}
}

// TestAStalledTenantLeavesPlacesToOthers of its cell, and is told that it is it.
func TestAStalledTenantLeavesPlacesToOthers(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	stalls := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stall" {
			<-over
		}
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": stalls}, func(_ *router.Options, l *pool.Limits) {
		l.Requests, l.Wait = 512, 20*time.Millisecond // the limit begins at 128
	})
	w.placed(place(2, "c1", 2, directory.Active), "bolt")
	answers := make(chan answer, 128)
	for range 128 {
		go func() { answers <- w.do("GET", "acme."+base, "/stall", "") }()
	}
	const share, rest = 112, 128 - 112
	for range rest {
		a := <-answers
		if a.code() != problem.RateLimited && a.code() != problem.CellUnavailable || a.Header.Get("Retry-After") == "" { // the latter where the machine is so slow that the cell seems silent
			t.Errorf("over its share: got %d %s", a.StatusCode, a.body)
		}
	}
	if n := w.metricOf("router_cell_shed_total", "c1"); n != rest {
		t.Errorf("%v were shed, want %d", n, rest)
	}
	if n := w.metric("router_cell_in_flight"); n != share {
		t.Errorf("%v are stalled, want %d", n, share)
	}
	for range 5 {
		if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
			t.Errorf("its neighbour: got %d %s", a.StatusCode, a.body)
		}
	}
	close(over)
	for range share {
		if a := <-answers; a.StatusCode != 200 {
			t.Errorf("a request under way: got %d", a.StatusCode)
		}
	}
}

// TestARefusedAssertionIsNotTheClients: whose clock or keys differ is the cell's and the
// router's matter. The client, whose token may be good, is told to come back.
func TestARefusedAssertionIsNotTheClients(t *testing.T) {
	t.Parallel()
	var w *world
	var ahead atomic.Int64
	var asked atomic.Int64
	checks := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		if _, err := w.assertion.For(token.OfCell("c1")).CheckAssertion(r.Header.Get(token.AssertionHeader), "c1", time.Now().Add(time.Duration(ahead.Load()))); err != nil {
			sendsAway(rw, r, err)
		}
	})
	w = newWorld(t, map[directory.CellID]http.Handler{"c1": checks}, func(o *router.Options, _ *pool.Limits) {
		o.Refresh = func(context.Context) error {
			t.Error("the directory was asked")
			return nil
		}
	})
	ask := func(method, body string) answer {
		return w.do(method, "acme."+base, "/", body, "Authorization", w.token(1))
	}
	if a := ask("GET", ""); a.StatusCode != 200 {
		t.Fatalf("got %d %s", a.StatusCode, a.body)
	}
	ahead.Store(int64(10 * time.Second))
	before := asked.Load()
	for method, body := range map[string]string{"GET": "", "HEAD": "", "POST": "x", "PUT": strings.Repeat("x", 100<<10)} {
		a, code := ask(method, body), problem.Unavailable
		if method == "HEAD" {
			code = "" // without a document
		}
		if w.want(a, 503, code); a.Header.Get("Retry-After") == "" || a.Header.Get(token.RefusalHeader) != "" {
			t.Errorf("%s: got %v", method, a.Header)
		}
	}
	if n := asked.Load() - before; n != 4 || w.metric("router_assertions_refused_total") != 4 {
		t.Errorf("the cell was asked %d times, and %v refusals were counted, want 4", n, w.metric("router_assertions_refused_total"))
	}
	if n := w.metric("router_holds_total"); n != 0 {
		t.Errorf("%v requests were held for a table that nobody will make", n)
	}
}

// rawCell answers each connection's first request with the bytes given.
func rawCell(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			// All of the request is read: what is left unread when a socket closes
			// resets it, and a reset may take the answer along.
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	return "http://" + ln.Addr().String()
}

func TestWhatACellAnswersWrongly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer string
		status int
		code   problem.Kind
	}{
		"garbage":              {"SSH-2.0-OpenSSH\r\n\r\n", 502, problem.BadGateway},
		"a head without end":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10), 502, problem.BadGateway},
		"two lengths":          {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502, problem.BadGateway},
		"nothing":              {"", 503, problem.CellUnavailable},
		"part of a head":       {"HTTP/1.1 200 OK\r\nX: ", 503, problem.CellUnavailable},
		"421 that is no JSON":  {"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n", 502, problem.BadGateway},
		"a problem of its own": {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, func(o *router.Options, _ *pool.Limits) { o.Hold.Time = 20 * time.Millisecond })
			v := w.table.View().Version()
			w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: "c1", Address: rawCell(t, tt.answer), State: directory.Ready}}})
			w.want(w.do("POST", "acme."+base, "/", "body"), tt.status, tt.code)
		})
	}
}

func TestAnAnswerThatIsCutIsCutForTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{
		{ID: "c1", Address: rawCell(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), State: directory.Ready},
	}})
	resp, err := w.client.Do(w.request(t.Context(), "GET", "acme."+base, "/", ""))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("the client took a cut answer for a whole one")
	}
	eventually(t, "the log line", func() bool { return strings.Contains(w.log.String(), "abort Handler") })
}

func TestAClientThatLeavesIsNoFaultOfTheCell(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	resp, err := w.client.Do(w.request(ctx, "GET", "acme."+base, "/", ""))
	if err == nil {
		_ = resp.Body.Close()
		t.Error("got an answer")
	}
	eventually(t, "the log line", func() bool { return strings.Contains(w.log.String(), `"status":499`) })
}

func TestOneLogLinePerRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	w.do("GET", "acme."+base, "/v1", "", "Authorization", w.token(1), "X-Request-Id", "r-1")
	line := `"bytes":`
	eventually(t, "the log line", func() bool { return strings.Contains(w.log.String(), line) })
	for _, part := range []string{`"tenant":"1"`, `"cell":"c1"`, `"epoch":1`, `"user_hash":"`, `"status":200`} {
		if !strings.Contains(w.log.String(), part) {
			t.Errorf("the line lacks %s: %s", part, w.log)
		}
	}
	if n := strings.Count(w.log.String(), "\n"); n != 1 {
		t.Errorf("got %d lines: %s", n, w.log)
	}
}

// TestARefusedPlacementIsAskedOnce: while one request waits because its cell does
// not serve the tenant any more, the others of the tenant are not sent there, but
// wait as well: a move's pause is no time to have every request refused.
func TestARefusedPlacementIsAskedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	refused := make(chan struct{}, 100)
	c1 := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		stale(rw, "frozen")
		refused <- struct{}{}
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": c1, "c2": named("c2")}, func(o *router.Options, _ *pool.Limits) {
		o.Hold.Time = time.Minute
	})
	var group sync.WaitGroup
	send := func() {
		group.Go(func() {
			if a := w.do("GET", "acme."+base, "/p", ""); a.StatusCode != 200 {
				t.Errorf("got %d %s", a.StatusCode, a.body)
			}
		})
	}
	held := func(n float64) {
		eventually(t, "requests wait", func() bool { return w.metric("router_held_requests") == n })
	}
	send()
	<-refused
	held(1)
	for range 9 {
		send()
	}
	held(10)
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	group.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the cell was asked %d times, want once", n)
	}
}
