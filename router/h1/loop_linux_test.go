package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A gate is a listener that counts its connections.
type gate struct {
	net.Listener
	now atomic.Int32
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	nc, err := g.Listener.Accept()
	if err == nil {
		g.now.Add(1)
		nc = &gated{Conn: nc, gate: g}
	}
	return nc, err
}

type gated struct {
	net.Conn
	gate *gate
	once sync.Once
}

// Wraps implements Wrapped.
func (g *gated) Wraps() net.Conn { return g.Conn }

// Close implements net.Conn.
func (g *gated) Close() error {
	g.once.Do(func() { g.gate.now.Add(-1) })
	return g.Conn.Close()
}

// TestLoopsCountConnections: loops drive connections of a listener that counts, and
// close each once, when it has ended, wherever it did.
func TestLoopsCountConnections(t *testing.T) {
	t.Parallel()
	up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(cellOfFlights))}
	t.Cleanup(up.Close)
	s := &Server{Direct: &directly{up: up}, Loops: 2, Handler: http.HandlerFunc(cellOfFlights)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: ln}
	served := make(chan error, 1)
	go func() { served <- s.Serve(g) }()
	flies, grounded := dial(t, ln.Addr().String()), dial(t, ln.Addr().String())
	flies.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
	flies.until(`GET /a ""`)
	grounded.send("GET /handler/b HTTP/1.1\r\nHost: a\r\n\r\n")
	grounded.until(`GET /handler/b ""`)
	if s.mu.Lock(); len(s.loops) != 2 {
		t.Errorf("got %d loops", len(s.loops))
	}
	s.mu.Unlock()
	if n := g.now.Load(); n != 2 {
		t.Errorf("got %d connections, want 2", n)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-served
	if n := g.now.Load(); n != 0 {
		t.Errorf("got %d connections after the end", n)
	}
}

// TestLoopsKnowDescriptorsThatCameBack: an event of a descriptor that was closed is not
// taken for one of another connection with the same number.
func TestLoopsKnowDescriptorsThatCameBack(t *testing.T) {
	t.Parallel()
	lp, err := newLoop(&Server{})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.end()
	add := func() *descriptor {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(pair[1]) })
		s := &descriptor{lp: lp, fd: pair[0]}
		if err := lp.add(s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := add()
	late := syscall.EpollEvent{Events: syscall.EPOLLRDHUP, Fd: int32(first.fd), Pad: first.birth} //nolint:gosec // a descriptor
	if lp.of(&late) != first {
		t.Error("its own event is not known")
	}
	fd := first.fd
	_ = first.Close()
	second := add()
	if second.fd != fd {
		second.fd, lp.by[fd] = fd, second // another test has taken the number meanwhile
	}
	if lp.of(&late) != nil {
		t.Error("an event of before was taken for another connection's")
	}
}

// TestKillAfterTheLoopHasEnded: a connection that has left its loop for a goroutine is
// closed by who learns of it late.
func TestKillAfterTheLoopHasEnded(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	lp := &loop{ended: true}
	c := &conn{srv: &Server{}, nc: ours, cancel: func() {}}
	c.loop.Store(lp)
	c.kill()
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Error("it is open")
	}
}

// TestPanicsInFlight: whatever panics ends its connection, and nobody else's.
func TestPanicsInFlight(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		told := make(chan any, 10)
		_, _, addr := flown(t, loops, cellOfFlights, func(s *Server) {
			s.Direct = panicsAt{s.Direct.(*directly)}
			s.Panicked = func(cause any) { told <- cause }
		})
		for _, at := range []string{"/take", "/drop", "/answer"} {
			bystander := dial(t, addr)
			bystander.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
			bystander.until(`GET /first ""`)
			c := dial(t, addr)
			c.send("GET " + at + " HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n")
			if got := c.ends(); strings.Contains(got, " 200 ") {
				t.Errorf("%s: got %q", at, got)
			}
			if cause := <-told; cause != at {
				t.Errorf("%s: told %v", at, cause)
			}
			bystander.send("GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if got := bystander.ends(); !strings.Contains(got, `GET /second ""`) {
				t.Errorf("%s: the bystander got %q", at, got)
			}
		}
	})
}

// panicsAt panics where the path says.
type panicsAt struct{ *directly }

// Take implements Direct.
func (d panicsAt) Take(f *Flight) Course {
	at := strings.Clone(f.Request.Target())
	f.Drop, f.DropAnswer = nil, nil
	switch at {
	case "/take":
		panic(at)
	case "/drop":
		f.Drop = func(string) bool { panic(at) }
	case "/answer":
		f.DropAnswer = func(string) bool { panic(at) }
	}
	return d.directly.Take(f)
}

// TestALoopReadsNoMoreThanIsTaken: of an answer little is read before its client has
// taken any, and nothing while the client has not taken what was read before.
func TestALoopReadsNoMoreThanIsTaken(t *testing.T) {
	t.Parallel()
	c := &conn{}
	s := &descriptor{fd: -1, link: &link{}, c: c}
	if n := s.room(1 << 20); n != firstBytes {
		t.Errorf("first: got %d, want %d", n, firstBytes)
	}
	c.w.bytes = firstBytes
	if n := s.room(1 << 20); n != 1<<20 {
		t.Errorf("then: got %d", n)
	}
	c.air.pending = []byte("x")
	if _, err := s.Read(make([]byte, 8)); !errors.Is(err, errAgain) {
		t.Errorf("pending: got %v", err)
	}
	c.air.pending, s.spent = nil, turnBytes
	if _, err := s.Read(make([]byte, 8)); !errors.Is(err, errAgain) {
		t.Errorf("after a turn: got %v", err)
	}
}

// TestALoopLooksBeforeItSends: what a cell says on an idle connection while the loop works
// is no answer to the next request, though no event has told of it yet.
func TestALoopLooksBeforeItSends(t *testing.T) {
	t.Parallel()
	answered, said := make(chan struct{}), make(chan struct{})
	f := newFront(t, evilCell(t, func(c net.Conn) {
		_, _ = io.WriteString(c, okHead+"Content-Length: 2\r\n\r\nhi")
		<-answered
		_, _ = io.WriteString(c, okHead+"Content-Length: 7\r\n\r\nFOREIGN")
		close(said)
	}), patience, way{true, 1})
	w := dial(t, f.addr)
	w.send(get + "/evil" + host1 + "\r\n")
	w.until("hi")
	eventually(t, "the connection is kept", func() bool { return f.kept() == 1 })
	f.server.mu.Lock()
	lp := f.server.loops[0]
	f.server.mu.Unlock()
	lp.post(func() {
		close(answered)
		<-said
		w.send(get + "/echo?mine" + host1 + "\r\n")
		for time.Since(lp.woke) < lookAfter { //nolint:revive // the loop works
		}
		lp.client(lp.conns[0])
	})
	if status, body, _, err := w.answer("GET"); status != 200 || body != "mine" || err != nil {
		t.Errorf("got %d %q, %v", status, body, err)
	}
}

// TestALoopKeepsWhatItHasNotTaken: an event that waits while the loop hears of others first
// is not lost, though none tells of it again.
func TestALoopKeepsWhatItHasNotTaken(t *testing.T) {
	t.Parallel()
	s, _, addr := coursing(t, 1)
	var clients [2]*wire
	for i := range clients { // one after the other, as the loop lists them
		clients[i] = dial(t, addr)
		clients[i].send(get + "/a" + host1 + "\r\n")
		if status, _, _, err := clients[i].answer("GET"); status != 200 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
	}
	s.mu.Lock()
	lp := s.loops[0]
	s.mu.Unlock()
	lp.post(func() { // while it works, two events come: a job, and then a request
		lp.post(func() {
			clients[0].send(get + "/a" + host1 + "\r\n")
			for time.Since(lp.woke) < lookAfter { //nolint:revive // the loop works
			}
			lp.client(lp.conns[0]) // which is late
		})
		clients[1].send(get + "/a" + host1 + "\r\n")
	})
	for _, c := range clients {
		if status, _, _, err := c.answer("GET"); status != 200 || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	}
}

// parkedBy is how many idle connections to u the loops of s have.
func parkedBy(s *Server, u *Upstream) (n int) {
	s.mu.Lock()
	loops := s.loops
	s.mu.Unlock()
	for _, lp := range loops {
		got := make(chan int, 1)
		if lp.post(func() { got <- len(lp.parked[u]) }) {
			n += <-got
		}
	}
	return n
}

// TestConnectionsComeBackToTheirLoop: once a request of theirs was one for loops, and not
// while handlers serve them, or answers that loops pass on.
func TestConnectionsComeBackToTheirLoop(t *testing.T) {
	t.Parallel()
	s, _, addr := coursing(t, 1)
	c := dial(t, addr)
	loops := func() int { // drive it
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if c.loop.Load() != nil {
				return 1
			}
		}
		return 0
	}
	for _, step := range []struct {
		path string
		want int
	}{{"/a", 1}, {"/handler", 0}, {"/handler", 0}, {"/a", 1}, {"/b", 1}, {"/waits", 0}, {"/refused", 1}, {"/refused", 1}, {"/handler", 0}, {"/large", 0}, {"/a", 1}} {
		c.send("GET " + step.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, _, _, err := c.answer("GET"); err != nil {
			t.Fatal(step.path, err)
		}
		eventually(t, fmt.Sprint(step.want, " loop drives it after ", step.path), func() bool { return loops() == step.want })
	}
}

// TestConnectionsThatComeBackEndWithTheServer, whether it shuts down or closes, at any moment.
func TestConnectionsThatComeBackEndWithTheServer(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		s, _, addr := coursing(t, 2)
		wires := []*wire{dial(t, addr), dial(t, addr), dial(t, addr)}
		for _, w := range wires {
			w.send("GET /handler HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n")
		}
		wires[i%3].until("GET /")
		if i%2 == 0 {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = s.Close()
		}
		for _, w := range wires {
			w.ends()
		}
		eventually(t, "all are forgotten", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.conns) == 0
		})
	}
}
