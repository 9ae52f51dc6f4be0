package router_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

func TestSignupGoesToTheDirectory(t *testing.T) {
	t.Parallel()
	dir := httptest.NewServer(named("directory"))
	t.Cleanup(dir.Close)
	w := newWorld(t, twoCells(), func(o *router.Options, _ *pool.Limits) {
		o.Directory, o.AuthRequired = parseURL(t, dir.URL), true
	})
	for _, host := range []string{base, "127.0.0.1:8080", "localhost"} {
		if a := w.do("POST", host, "/signup", `{"slug":"x"}`); a.StatusCode != 200 || !strings.HasSuffix(a.body, `/signup {"slug":"x"}`) {
			t.Errorf("%s: got %d %q", host, a.StatusCode, a.body)
		}
	}
	w.want(w.do("POST", base, "/signup", strings.Repeat("x", 65<<10)), 413, problem.TooLarge)
	w.want(w.do("POST", base, "/signup", "{}", "Cell-Id", "c1"), 400, problem.ReservedHeader)
	dir.Close()
	w.want(w.do("POST", base, "/signup", "{}"), 503, problem.Unavailable)
}

// TestANewTenantIsKnownWhenItIsTold: who has signed up may go on at once.
func TestANewTenantIsKnownWhenItIsTold(t *testing.T) {
	t.Parallel()
	dir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	t.Cleanup(dir.Close)
	var w *world
	w = newWorld(t, twoCells(), func(o *router.Options, _ *pool.Limits) {
		o.Directory = parseURL(t, dir.URL)
		o.Refresh = func(context.Context) error {
			w.placed(place(7, "c1", 1, directory.Active), "newcomer")
			return nil
		}
	})
	if a := w.do("POST", base, "/signup", `{"slug":"newcomer"}`); a.StatusCode != 201 {
		t.Fatalf("got %d %q", a.StatusCode, a.body)
	}
	if a := w.do("GET", "newcomer."+base, "/v1", ""); a.StatusCode != 200 {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
}

// TestSlowSignupsHoldNobodyUp: who sends a sign-up byte by byte, or too much of one, has
// no connection to the directory meanwhile, of which there are few.
func TestSlowSignupsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			dir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusCreated)
			}))
			t.Cleanup(dir.Close)
			w := newWorldOn(t, engine, twoCells(), func(o *router.Options, _ *pool.Limits) { o.Directory = parseURL(t, dir.URL) })
			begin := func(length int) (net.Conn, *bufio.Reader) {
				t.Helper()
				nc, err := net.Dial("tcp", w.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(nc, "POST /signup HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", base, length)
				return nc, bufio.NewReader(nc)
			}
			for range 64 { // as many as there are connections to the directory
				nc, r := begin(100)
				line, err := r.ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
					t.Fatalf("got %q, %v", line, err)
				}
				_, _ = io.WriteString(nc, "{")
			}
			nc, r := begin(65<<10 + 1)
			_, _ = io.WriteString(nc, strings.Repeat("x", 65<<10)) // what is left never comes
			for {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode == http.StatusContinue {
					continue
				}
				if resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("too large: got %d", resp.StatusCode)
				}
				break
			}
			if a := w.do("POST", base, "/signup", "{}"); a.StatusCode != http.StatusCreated {
				t.Errorf("another: got %d %s", a.StatusCode, a.body)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the directory was asked %d times, want once", n)
			}
		})
	}
}
