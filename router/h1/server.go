package h1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Server serves HTTP/1.1 with a goroutine per connection, or loops, like http.Server,
// whose handlers it takes. What a handler is given is the handler's until it
// returns: the request, its header and its context are used again.
//
// A 1xx status that a handler writes is not sent, and connections cannot be
// hijacked: tunnels are Forward's.
type Server struct {
	Handler http.Handler
	Direct  Direct // of plain requests, before the Handler; nil: none is
	// Loops is how many event loops drive plain TCP connections while their requests
	// are plain; the others get a goroutine each, as all do where it is 0, there is
	// no Direct, or the system is not Linux.
	Loops  int
	Files  *Files // of the Upstreams, whose idle connections the loops keep; nil: nothing bounds those
	Limits Limits
	Head   time.Duration // for a request's head, from its first byte; 0 is 10 s
	Idle   time.Duration // between two requests; 0 is 2 min
	Nap    time.Duration // idle, until a connection gives its goroutine and its memory back, on Linux; 0 is 2 s
	Whole  time.Duration // for one exchange; 0 is 2 min
	Upload time.Duration // between two pieces of a body; 0 is 30 s
	Tunnel time.Duration // without a byte either way; 0 is 10 min
	// Refused is told of each request that is not HTTP as we take it, with its path,
	// where it got so far, and says what its sender reads: it fills the header and
	// returns the body; nil sends a line of text.
	Refused func(f Fault, path string, header http.Header) (body []byte)
	// Panicked is told what a handler panicked with, other than
	// http.ErrAbortHandler; nil drops it.
	Panicked func(cause any)

	// Draining is called once, when Shutdown begins, to end what would go on; nil: nothing.
	Draining func()

	retiring atomic.Bool
	draining atomic.Bool
	drains   sync.Once
	mu       sync.Mutex
	started  bool
	lns      map[net.Listener]struct{}
	conns    map[*conn]struct{}
	changed  chan struct{} // closed and made anew when a conn ends or becomes a tunnel; nil: nobody waits
	buffers  sync.Pool
	written  sync.Pool
	loops    []*loop
	turn     int // of them, whose the next connection is
	naps     naps
}

// A Wrapped is a connection that adds nothing to the one that it wraps but to note
// when it is closed. Loops drive that one, and close the Wrapped at its end.
type Wrapped interface {
	net.Conn
	Wraps() net.Conn
}

// start makes what the zero Server lacks.
func (s *Server) start(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return http.ErrServerClosed
	}
	if !s.started {
		s.started = true
		s.lns, s.conns = map[net.Listener]struct{}{}, map[*conn]struct{}{}
		s.Limits = s.Limits.orDefaults()
		for _, d := range []struct {
			field *time.Duration
			value time.Duration
		}{{&s.Head, 10 * time.Second}, {&s.Idle, 2 * time.Minute}, {&s.Nap, 2 * time.Second}, {&s.Whole, 2 * time.Minute}, {&s.Upload, 30 * time.Second}, {&s.Tunnel, 10 * time.Minute}} {
			if *d.field <= 0 {
				*d.field = d.value
			}
		}
		s.Nap = min(s.Nap, s.Idle)
	}
	s.lns[ln] = struct{}{}
	return nil
}

// Serve accepts connections on ln until Shutdown or Close; then it returns
// http.ErrServerClosed.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.start(ln); err != nil {
		return errors.Join(err, ln.Close())
	}
	if s.Loops > 0 && s.Direct != nil {
		if err := s.startLoops(); err != nil {
			return err
		}
	}
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			if s.Loops == 0 || s.Direct == nil || !s.adopt(nc) {
				s.add(nc)
			}
			continue
		case s.draining.Load():
			return http.ErrServerClosed
		}
		if !passes(err) {
			return fmt.Errorf("accept: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		time.Sleep(pause)
	}
}

// passes reports whether accepting failed for a while only: out of files, or a
// client that has left already.
func passes(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

func (s *Server) add(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go c.serve() // ends with the connection, which Shutdown waits for and Close closes
}

// gone forgets a connection that has ended.
func (s *Server) gone(c *conn) {
	if c.outer != nil {
		_ = c.outer.Close() // below it is closed already
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.tell()
}

// tunnelled notes that c is a tunnel, which Shutdown tells to end.
func (s *Server) tunnelled(c *conn, x *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.tunnel = x
	s.tell()
}

func (s *Server) tell() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Retire makes every answer from now on its connection's last. Who asks nothing
// keeps its connection until Shutdown.
func (s *Server) Retire() { s.retiring.Store(true) }

// Shutdown stops listening, closes connections that are idle, tells the clients of
// tunnels to leave, and lets exchanges under way finish. It returns ctx's error where
// ctx ends before that.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	if s.Draining != nil {
		s.drains.Do(s.Draining)
	}
	for {
		s.mu.Lock()
		for c := range s.conns {
			if c.state.CompareAndSwap(idle, closed) {
				c.shut()
			}
			if c.tunnel != nil {
				c.tunnel.end(Leaving)
			}
		}
		if len(s.conns) == 0 {
			s.mu.Unlock()
			return s.Close()
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close stops listening and closes every connection.
func (s *Server) Close() error {
	s.stopListening()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.kill()
	}
	return nil
}

func (s *Server) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for _, lp := range s.loops {
		lp.post(lp.stop)
	}
	s.loops = nil
	s.naps.stop()
	for ln := range s.lns {
		_ = ln.Close() // Accept reports it
		delete(s.lns, ln)
	}
}
