package router_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

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
