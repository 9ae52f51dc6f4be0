package h1

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A loop is one goroutine that drives many connections: it waits for all of them
// at once, and serves their flights from the first byte to the last without
// waiting for any. Whatever must wait for one of them is grounded: it goes on in a
// goroutine of its own, with what has been received and sent.
type loop struct {
	srv    *Server
	waker  [2]int // a pipe that ends a wait
	over   bool   // it takes no more connections, and ends with its last
	by     []*descriptor
	conns  []*conn
	parked map[*Upstream][]*link // idle, the newest last
	events []syscall.EpollEvent

	left   []departure // clients that have left during a flight
	again  []*conn     // that have used up their turn
	spare  []*conn     // what again was before
	births int32       // descriptors so far, each with a number of its own
	swept  time.Time
	woke   time.Time // when it had heard of everything
	late   bool      // that is lookAfter ago
	kept   int       // events, the first of events, that it takes when it has heard again
	turn   int       // where in conns the next sweep begins
	sweeps int
	waiting

	mu    sync.Mutex
	jobs  []func()
	ended bool
}

// airborne is what a loop has of a connection.
type airborne struct {
	descriptor
	at      int       // in the loop's conns
	due     time.Time // when it ends, unless something happens
	parsing bool      // a head is there in part
	more    bool      // bytes came during the flight
	dialing bool
	queued  bool   // it is in again
	gone    bool   // the client has left
	relay   *relay // of the flight; nil: there is none
	up      []byte // of the request, what the cell has not taken when the flight is grounded
}

// A departure is a client that left during a flight, which ends a little later.
type departure struct {
	c     *conn
	began time.Time // the flight's
	at    time.Time
}

const (
	sweepEvery = 32 * time.Millisecond
	sweepParts = 32 // of the connections, one each sweep: each is looked at about once a second
	edges      = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31
)

// startLoops starts the loops that are asked for, once.
func (s *Server) startLoops() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() || len(s.loops) > 0 {
		return nil
	}
	for range s.Loops {
		lp, err := newLoop(s)
		if err != nil {
			return err
		}
		s.loops = append(s.loops, lp)
		s.Files.Join(lp)
		go lp.run() // ends when the server stops and the last connection has
	}
	return nil
}

// adopt gives a connection to a loop, each in its turn; false where it is none for
// loops.
func (s *Server) adopt(nc net.Conn) bool {
	inner := nc
	if w, ok := nc.(Wrapped); ok {
		inner = w.Wraps()
	}
	tcp, ok := inner.(*net.TCPConn)
	if !ok {
		return false
	}
	fd, err := descriptorOf(tcp)
	if err != nil {
		return false
	}
	s.mu.Lock()
	var lp *loop
	if len(s.loops) > 0 {
		s.turn++
		lp = s.loops[s.turn%len(s.loops)]
	}
	s.mu.Unlock()
	if lp == nil {
		_ = syscall.Close(fd)
		return false
	}
	peer := nc.RemoteAddr().String()
	c := &conn{srv: s, peer: peer, ip: ipOf(peer), outer: nc, ctx: context.Background(), cancel: func() {}}
	c.w.c, c.nc = c, &c.air
	c.air.descriptor = descriptor{lp: lp, fd: fd, c: c}
	_ = tcp.Close() // the scheduler's poller forgets it; fd is the connection
	if !lp.post(func() { lp.begin(c, s.Head) }) {
		_ = syscall.Close(fd)
		_ = nc.Close()
	}
	return true
}

func newLoop(s *Server) (lp *loop, err error) {
	lp = &loop{srv: s, parked: map[*Upstream][]*link{}, events: make([]syscall.EpollEvent, 128), swept: time.Now(), waker: [2]int{-1, -1}}
	defer func() {
		if err != nil {
			lp.end()
		}
	}()
	lp.alone = runtime.GOMAXPROCS(0) == 1
	lp.look = func(uintptr) bool {
		lp.found = lp.glance()
		return lp.found > 0
	}
	if lp.epoll, err = newWatched("loop"); err != nil {
		return lp, fmt.Errorf("make an event loop: %w", err)
	}
	if err = syscall.Pipe2(lp.waker[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		return lp, fmt.Errorf("make an event loop's pipe: %w", err)
	}
	return lp, lp.watch(lp.waker[0], 0, syscall.EPOLLIN)
}

// dup is another descriptor of raw's, which the scheduler's poller does not know.
func dup(raw syscall.RawConn) (fd int, err error) {
	cerr := raw.Control(func(old uintptr) {
		n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if fd = int(n); errno != 0 { //nolint:gosec // a descriptor
			fd, err = -1, errno
		}
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// watch has events of fd come with birth, which tells them from those of a
// descriptor that had the same number before and has been closed since.
func (lp *loop) watch(fd int, birth int32, events uint32) error {
	e := syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: birth} //nolint:gosec // a descriptor
	if err := syscall.EpollCtl(lp.epoll.fd, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch a descriptor: %w", err)
	}
	return nil
}

// post has the loop run f; false where the loop has ended.
func (lp *loop) post(f func()) bool {
	lp.mu.Lock()
	defer lp.mu.Unlock()
	if lp.ended {
		return false
	}
	if lp.jobs = append(lp.jobs, f); len(lp.jobs) == 1 { // else who came first has written, and work has not taken them yet
		_, _ = syscall.Write(lp.waker[1], []byte{0}) // a full pipe wakes as well
	}
	return true
}

// stop takes no more connections. The loop ends with its last one.
func (lp *loop) stop() { lp.over = true }

func (lp *loop) run() {
	defer lp.end()
	for !lp.over || len(lp.conns) > 0 {
		n := lp.wait()
		lp.now = time.Now()
		if lp.kept+n < len(lp.events) { // else there may be more to hear of
			lp.woke = lp.now
		}
		events, fresh := lp.events[:lp.kept+n], lp.events[lp.kept:lp.kept+n]
		for i := range fresh { // cells that have closed, or speak unasked, before what might use the connection
			if s := lp.of(&fresh[i]); s != nil && s.link != nil && s.c == nil {
				lp.unpark(s.link)
			}
		}
		for i := range fresh { // answers before the next requests
			if s := lp.of(&fresh[i]); s != nil && s.link != nil && s.c != nil {
				lp.on(s, &fresh[i])
			}
		}
		lp.kept, lp.late = 0, false
		for i := range events {
			if lp.other(&events[i]); lp.late {
				lp.kept = copy(events, events[i+1:])
				break
			}
		}
		lp.goOn()
		lp.sweep()
	}
}

// end gives back what the loop has.
func (lp *loop) end() {
	lp.srv.Files.Leave(lp)
	lp.mu.Lock()
	lp.ended = true
	jobs := lp.jobs
	lp.mu.Unlock()
	for _, f := range jobs {
		f() // they find nothing
	}
	for _, links := range lp.parked {
		for _, l := range links {
			_ = l.Close()
		}
	}
	if lp.epoll != nil {
		_ = lp.epoll.file.Close()
	}
	_, _ = syscall.Close(lp.waker[0]), syscall.Close(lp.waker[1])
}

// of is whose event it is, nil where it is the loop's own or of one that has gone.
func (lp *loop) of(e *syscall.EpollEvent) *descriptor {
	if fd := int(e.Fd); fd < len(lp.by) && lp.by[fd] != nil && lp.by[fd].birth == e.Pad {
		return lp.by[fd]
	}
	return nil
}

// on takes one event of a client's connection, or of one to a cell that a flight waits for.
func (lp *loop) on(s *descriptor, e *syscall.EpollEvent) {
	s.ended = s.ended || e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	if s.link == nil {
		lp.client(s.c)
	} else {
		lp.answer(s.c)
	}
}

// other takes one event that is no upstream connection's.
func (lp *loop) other(e *syscall.EpollEvent) {
	switch int(e.Fd) {
	case lp.waker[0]:
		lp.work()
	default:
		if s := lp.of(e); s != nil && s.link == nil {
			lp.on(s, e)
		}
	}
}

// queue gives c another turn.
func (lp *loop) queue(c *conn) {
	if !c.air.queued {
		c.air.queued = true
		lp.again = append(lp.again, c)
	}
}

// goOn gives those another turn whose answers, or requests, had more to it than one.
func (lp *loop) goOn() {
	turn := lp.again
	lp.again, lp.spare = lp.spare[:0], turn
	for i, c := range turn {
		turn[i] = nil
		if !lp.here(c) {
			continue // what it has is its goroutine's
		}
		c.air.queued = false
		switch t := c.air.relay; {
		case t == nil:
			lp.client(c)
		case t.link != nil:
			lp.answer(c)
		}
	}
}

func (lp *loop) work() {
	var buf [64]byte
	_, _ = syscall.Read(lp.waker[0], buf[:]) // it was readable
	lp.mu.Lock()
	jobs := lp.jobs
	lp.jobs = nil
	lp.mu.Unlock()
	for _, f := range jobs {
		f()
	}
}

// begin takes a connection in, which has so long until its next request.
func (lp *loop) begin(c *conn, wait time.Duration) {
	c.air.due = time.Now().Add(wait)
	c.loop.Store(lp)
	s := lp.srv
	s.mu.Lock()
	taken := !s.draining.Load()
	if taken {
		s.conns[c] = struct{}{}
	} else {
		_ = c.air.Close() // with the lock, as from outside where the loop has ended
	}
	s.mu.Unlock()
	if !taken || lp.add(&c.air.descriptor) != nil {
		_ = c.air.Close() // once more is nothing
		s.gone(c)
		return
	}
	c.air.at = len(lp.conns)
	lp.conns = append(lp.conns, c)
}

// add has the loop watch s.
func (lp *loop) add(s *descriptor) error {
	for s.fd >= len(lp.by) {
		lp.by = append(lp.by, make([]*descriptor, max(64, len(lp.by)))...)
	}
	lp.by[s.fd] = s
	lp.births++
	s.birth = lp.births
	return lp.watch(s.fd, s.birth, edges)
}

// forget takes c out of the loop.
func (lp *loop) forget(c *conn) {
	last := lp.conns[len(lp.conns)-1]
	lp.conns[c.air.at], last.air.at = last, c.air.at
	lp.conns[len(lp.conns)-1] = nil
	lp.conns = lp.conns[:len(lp.conns)-1]
	c.air.at = -1
}

// here reports whether the loop still drives c.
func (lp *loop) here(c *conn) bool { return c.loop.Load() == lp && c.air.at >= 0 }

// close ends a connection without a flight.
func (lp *loop) close(c *conn) {
	if !lp.here(c) {
		return
	}
	lp.forget(c)
	if c.reset {
		_ = syscall.SetsockoptLinger(c.air.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}
	_ = c.air.Close()
	c.release()
	lp.srv.gone(c)
}

// kill ends a connection, whatever it does.
func (lp *loop) kill(c *conn) {
	switch {
	case !lp.here(c):
		if c.loop.Load() == nil {
			c.kill() // it was grounded meanwhile
		}
	case c.air.relay == nil:
		lp.close(c)
	default:
		c.air.gone, c.air.dialing = true, false
		lp.settle(c, net.ErrClosed)
		if c.loop.Load() == nil {
			c.kill()
		}
	}
}

// sweep looks for what is overdue, a part of the connections at a time.
func (lp *loop) sweep() {
	now := lp.now
	if now.Sub(lp.swept) < sweepEvery {
		return
	}
	lp.swept = now
	lp.depart(now)
	for range len(lp.conns)/sweepParts + 1 {
		if lp.turn++; lp.turn >= len(lp.conns) {
			lp.turn = 0
		}
		if len(lp.conns) == 0 {
			break
		}
		c := lp.conns[lp.turn]
		switch {
		case now.Before(c.air.due), c.air.dialing:
		case c.air.relay != nil:
			lp.settle(c, os.ErrDeadlineExceeded)
		default:
			lp.close(c)
		}
	}
	if lp.sweeps++; lp.sweeps%sweepParts == 0 || len(lp.conns) == 0 { // without clients it sweeps once a second
		lp.sweepParked(now)
	}
}

// depart ends the flights of clients that have left, but not at once: many
// answers come right away.
func (lp *loop) depart(now time.Time) {
	kept := lp.left[:0]
	for _, d := range lp.left {
		switch {
		case !lp.here(d.c) || d.c.air.relay == nil || d.c.air.relay.began != d.began:
		case now.Sub(d.at) < watchAfter || d.c.air.dialing:
			kept = append(kept, d)
		default:
			d.c.air.gone = true
			lp.settle(d.c, context.Canceled)
		}
	}
	clear(lp.left[len(kept):])
	lp.left = kept
}
