package router_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// echoSocket is a cell that switches protocols and says everything again.
func echoSocket(w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCell-Secret: x\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

// socket opens a tunnel of acme's, with a head of more fields.
func (w *world) socket(more string) (net.Conn, *bufio.Reader) {
	w.tb.Helper()
	c, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /socket HTTP/1.1\r\nHost: acme."+base+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+more+"\r\n")
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Cell-Secret") != "" || resp.Header.Get("X-Request-Id") == "" {
		w.tb.Fatalf("got %v, %v", resp, err)
	}
	return c, from
}

// TestASocketEndsWithItsKey, which was revoked.
func TestASocketEndsWithItsKey(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http's has no tunnels")
	}
	w, known := credentialed(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(echoSocket)}, nil)
	_, gone := w.socket("Authorization: " + known.key + "\r\n")
	c, stays := w.socket("Authorization: " + known.other + "\r\n")
	known.revokeKey()
	if rest, err := io.ReadAll(gone); len(rest) != 0 || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %q, %v, want the end", rest, err)
	}
	_, _ = io.WriteString(c, "line\n")
	if line, err := stays.ReadString('\n'); line != "line\n" {
		t.Errorf("another key's: got %q, %v", line, err)
	}
}

// TestSockets: a tunnel outlives the time of a request, takes no place among
// requests, and ends when its tenant moves, so that the client finds the owner.
func TestSockets(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http's has no tunnels")
	}
	const limit = 2 * time.Second // a busy machine takes its time for the 101, too
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(echoSocket), "c2": named("c2")}, func(o *router.Options, l *pool.Limits) {
		o.CellTimeout, l.Requests = limit, 1
	})
	one, fromOne := w.socket("")
	two, fromTwo := w.socket("")
	// Both tunnels are older than this is.
	tick := time.NewTicker(limit / 8)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < limit+limit/4; <-tick.C {
		for c, from := range map[net.Conn]*bufio.Reader{one: fromOne, two: fromTwo} {
			_, _ = io.WriteString(c, "line\n")
			if line, err := from.ReadString('\n'); line != "line\n" {
				t.Fatalf("got %q, %v", line, err)
			}
		}
	}
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	for _, from := range []*bufio.Reader{fromOne, fromTwo} {
		if rest, err := io.ReadAll(from); len(rest) != 0 || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("got %q, %v, want the end", rest, err)
		}
	}
	if a := w.do("GET", "acme."+base, "/x", ""); !strings.HasPrefix(a.body, "c2 ") {
		t.Errorf("after the move: got %q", a.body)
	}
}
