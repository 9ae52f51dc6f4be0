package h1_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

// TestDesyncThroughTheRouter: each case of TestDesync before a whole router, on each of its
// ways, gets its status and its connection's end. Its cell sees not a byte of it, also where
// it is the body that is at fault, and nobody's answer is another's.
func TestDesyncThroughTheRouter(t *testing.T) {
	t.Parallel()
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RawQuery) }))
	t.Cleanup(cell.Close)
	for name, serves := range map[string]func(*router.Router) *h1.Server{
		"handler": func(rt *router.Router) *h1.Server {
			s := rt.NewEngine()
			s.Direct = nil
			return s
		},
		"goroutines": (*router.Router).NewEngine,
		"loops":      (*router.Router).NewLoops,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := h1.NewTap(t, cell.Listener.Addr().String())
			addr := newRouter(t, "http://"+to.Addr, serves)
			sent, n, asked := 0, 0, []string(nil)
			for in, fault := range h1.Desync {
				status, rest, err := answerTo(t, addr, in)
				if status != fault.Status() || rest != "" || err != nil || to.Sent() != sent {
					t.Errorf("case %d, %.200q: got %d, then %q and %v, want %d and the end; the cell was sent %d bytes", n, in, status, rest, err, fault.Status(), to.Sent()-sent)
				}
				if n%10 == 0 {
					asked = append(asked, canary(t, addr, fmt.Sprintf("after-%d", n)))
				}
				sent = to.Sent()
				n++
			}
			slices.Sort(asked)
			if got := to.Requests(); !slices.Equal(got, asked) {
				t.Errorf("the cell was sent %q, want the canaries %q", got, asked)
			}
		})
	}
}

// answerTo is the status of what in is answered with, what comes after that answer, and how
// the connection ends: nil is that no more comes.
func answerTo(t *testing.T, addr, in string) (status int, rest string, err error) {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, in) // the answer decides
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, "", err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return resp.StatusCode, "", err
	}
	after, err := io.ReadAll(from)
	return resp.StatusCode, string(after), err
}

// canary asks for a nonce, on a connection of its own, and says what of it the cell sees.
func canary(t *testing.T, addr, nonce string) (request string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/echo?"+nonce, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "a.example"
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(body) != nonce || err != nil {
		t.Errorf("canary %s: got %d %q, %v", nonce, resp.StatusCode, body, err)
	}
	return "GET /echo?" + nonce
}

// newRouter runs a router whose one tenant, of a.example, is on the cell given.
func newRouter(t *testing.T, cell string, serves func(*router.Router) *h1.Server) (addr string) {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	places := table.New()
	if err := places.Apply(directory.Update{
		Version: 1, Cells: []directory.CellRoute{{ID: "c1", Address: cell, State: directory.Ready}},
		Routes: []directory.Route{{Placement: directory.Placement{Tenant: 1, Cell: "c1", Epoch: 1, State: directory.Active}, Slug: "acme", Hosts: []string{"a.example"}}},
	}); err != nil {
		t.Fatal(err)
	}
	relay := router.NewRelay(pool.Limits{Requests: 64, Timeout: 10 * time.Second})
	t.Cleanup(relay.Close)
	rt := router.New(router.Options{
		Chain: &identify.Chain{BaseDomain: "cellway.localhost", Keys: keys}, Table: places, AssertionKeys: keys,
		CellTimeout: 10 * time.Second, Hold: router.HoldLimits{Time: time.Second, Requests: 10, Bytes: 1 << 20}, MaxBody: 1 << 20,
		Forwarder: relay, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	t.Cleanup(rt.Close)
	return h1.Serve(t, serves(rt))
}
