package cell_test

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
)

// A listener is the client of one stream.
type listener struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	retry int    // milliseconds
	last  string // the id of the last event
	reset bool   // the last event says that what was seen is lost
}

// listen opens a stream, which must answer with status.
func (h *harness) listen(status int, q request) *listener {
	h.t.Helper()
	if q.path == "" {
		q.path = "/v1/activity/stream"
	}
	q.method = "GET"
	req, err := h.build(q)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != status {
		h.t.Fatalf("open stream: got %d, want %d", resp.StatusCode, status)
	}
	return &listener{t: h.t, resp: resp, lines: bufio.NewScanner(resp.Body)}
}

// next is the id of the next event; ok is false where the stream has ended.
func (l *listener) next() (id int, ok bool) {
	l.t.Helper()
	for l.lines.Scan() {
		name, value, _ := strings.Cut(l.lines.Text(), ": ")
		var err error
		switch name {
		case "retry":
			l.retry, err = strconv.Atoi(value)
		case "id":
			l.last = value
			seq, _, _ := strings.Cut(value, "-")
			id, err = strconv.Atoi(seq)
		case "event":
			l.reset = value == "reset"
		case "data":
			if l.reset {
				return 0, true
			}
			if !strings.Contains(value, fmt.Sprintf(`"seq":%d,`, id)) {
				l.t.Errorf("event %d has data %s", id, value)
			}
			return id, true
		}
		if err != nil {
			l.t.Errorf("line %q: %v", l.lines.Text(), err)
		}
	}
	return 0, false
}

func (l *listener) want(ids ...int) {
	l.t.Helper()
	for _, want := range ids {
		if got, ok := l.next(); !ok || got != want {
			l.t.Fatalf("got event %d, %v; want %d", got, ok, want)
		}
	}
}

// wantReset checks that the client is told to read anew.
func (l *listener) wantReset() {
	l.t.Helper()
	if id, ok := l.next(); !ok || !l.reset || l.last != "0" {
		l.t.Fatalf("got event %d, %v, id %s; want a reset", id, ok, l.last)
	}
	l.reset = false
}

func (l *listener) wantEnd() {
	l.t.Helper()
	if id, ok := l.next(); ok {
		l.t.Errorf("got event %d, want the end", id)
	}
	if err := l.lines.Err(); err != nil {
		l.t.Errorf("got %v, want an orderly end", err)
	}
}

// open is how many streams the process says are open.
func (h *harness) open() float64 { return h.metric("cell_streams_open") }

func (h *harness) metric(name string) (sum float64) {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestAStreamTellsWhatHappensAsItHappens(t *testing.T) {
	t.Parallel()
	// The stream must outlive the time that other requests have.
	h := start(t, func(o *cell.Options) { o.Timeout = time.Second })
	h.live()
	h.createProject(acme, "one")
	until(t, "the first event", func() bool { return len(h.activity(acme)) == 1 })
	l := h.listen(200, request{})
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store"} {
		if got := l.resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	l.want(1)
	if l.retry < 1000 || l.retry > 5000 {
		t.Errorf("told to come back after %d ms, want 1 to 5 s", l.retry)
	}
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		h.createProject(acme, "more")
		id, ok := l.next()
		if !ok || id != int(h.position(acme)) {
			t.Fatalf("got event %d, %v; want %d", id, ok, h.position(acme))
		}
	}
	last := int(h.position(acme))
	h.listen(200, request{path: "/v1/activity/stream?after=1"}).want(2)
	again := request{path: "/v1/activity/stream?after=0", header: map[string]string{"Last-Event-ID": strconv.Itoa(last - 1)}}
	h.listen(200, again).want(last)
	if n := h.open(); n != 3 {
		t.Errorf("%v streams are open, want 3", n)
	}
	l.resp.Body.Close()
	until(t, "the stream of a client that went away to end", func() bool { return h.open() == 2 })
	h.listen(400, request{header: map[string]string{"Last-Event-ID": "x"}})
}

func TestAStreamIsOfOneTenant(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	mine, theirs := h.listen(200, request{tenant: acme}), h.listen(200, request{tenant: bravo})
	for range 3 {
		h.createProject(bravo, secret)
	}
	theirs.want(1, 2, 3)
	h.createProject(acme, "mine")
	mine.want(1)
	h.db.StopStreams()
	mine.wantEnd()
	theirs.wantEnd()
	h.listen(503, request{})
	if n := h.open(); n != 0 {
		t.Errorf("%v streams are open", n)
	}
}

// A frozen tenant's streams end without the router's doing, and nothing is opened
// for it until it is served again, at another epoch.
func TestAStreamEndsWithTheTenantsStay(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	h.createProject(acme, "one")
	h.createProject(bravo, "one")
	l, other := h.listen(200, request{}), h.listen(200, request{tenant: bravo})
	l.want(1)
	other.want(1)
	freeze(t, h, acme)
	l.wantEnd()
	h.listen(421, request{})
	if _, err := fence.Activate(t.Context(), h.store.DB(), acme, 2, 2, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	h.listen(421, request{epoch: 1})
	h.listen(200, request{epoch: 2}).want(1)
	h.createProject(bravo, "two")
	other.want(2)
}

func freeze(t *testing.T, h *harness, tenant directory.TenantID) {
	t.Helper()
	if _, err := fence.Freeze(t.Context(), h.store.DB(), tenant, 1, "move-1", 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t)
	const most = 32
	for range most {
		h.listen(200, request{})
	}
	h.listen(429, request{})
	h.listen(200, request{tenant: bravo})
	if n := h.open(); n != most+1 {
		t.Errorf("%v streams are open, want %d", n, most+1)
	}
}

// What happens while nobody listens is not missed by one who comes back.
func TestAClientThatComesBackMissesNothing(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	var seen []int
	for len(seen) < 30 {
		last := 0
		if len(seen) > 0 {
			last = seen[len(seen)-1]
		}
		h.createProject(acme, "while away")
		l := h.listen(200, request{header: map[string]string{"Last-Event-ID": strconv.Itoa(last)}})
		h.createProject(acme, "while there")
		for range 2 {
			id, ok := l.next()
			if !ok {
				t.Fatal("the stream ended")
			}
			seen = append(seen, id)
		}
		l.resp.Body.Close()
	}
	want := make([]int, len(seen))
	for i := range want {
		want[i] = i + 1
	}
	if !slices.Equal(seen, want) {
		t.Errorf("got %v", seen)
	}
}
