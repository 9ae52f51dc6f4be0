// Package front is the router's encrypted listener: it makes TLS, and gives each
// connection to who speaks its protocol: an HTTP/1.1 engine, or net/http for
// HTTP/2. Both serve the same handler.
//
// What net/http does not bound of HTTP/2 is bounded here, before it: a connection
// that sends frames which cost us and bring nothing is closed.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// An Engine serves HTTP/1.1, as *http.Server and *h1.Server do.
type Engine interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// Options are what a Server is made of.
type Options struct {
	TLS      *tls.Config         // nil: HTTP/2 without TLS, for a listener that takes nothing else, and of hops of ours only
	Engine   Engine              // serves HTTP/1.1; nil where TLS is
	Handler  http.Handler        // serves HTTP/2
	Whole    time.Duration       // for one exchange
	Idle     time.Duration       // between two exchanges
	MaxHead  int                 // bytes of a request's head
	Draining func()              // called when Shutdown begins
	Hop      func(net.Addr) bool // whether a peer is a hop of ours, with many clients behind it; nil: none is
	Metrics  *Metrics
	Log      *slog.Logger // of net/http, at level debug
}

const (
	maxStreams = 128      // at once, of one connection
	maxFrame   = 16 << 10 // bytes of one frame: of each connection, one is kept in memory
	pingAfter  = 30 * time.Second
	pingWait   = 15 * time.Second
	writeTime  = 30 * time.Second // for the client to take one byte
)

// A Server serves TLS. Make it with New.
type Server struct {
	o      Options
	h2     *http.Server
	plain  *inlet // of HTTP/1.1
	frames *inlet // of HTTP/2
	ctx    context.Context
	stop   context.CancelFunc

	shaking  *crowd // handshakes
	arrivals *crowd // requests over HTTP/2

	mu     sync.Mutex
	ln     net.Listener
	closed bool
	shakes sync.WaitGroup
}

// New makes a Server.
func New(o Options) *Server {
	s := &Server{o: o, shaking: newCrowd(handshakes, 0, 0), arrivals: newCrowd(arrivals, arriveTime, ownArriveTime)} // no handshake gives way
	s.ctx, s.stop = context.WithCancel(context.Background())
	protocols := &http.Protocols{}
	// By then the connection is no TLS for net/http, which counts no frames of what
	// it has not read: our own reader stands between.
	protocols.SetUnencryptedHTTP2(true)
	s.h2 = &http.Server{
		Handler: s.arriving(o.Handler), Protocols: protocols, MaxHeaderBytes: o.MaxHead,
		ReadHeaderTimeout: handshakeTime, ReadTimeout: o.Whole, WriteTimeout: o.Whole, IdleTimeout: o.Idle,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrame, SendPingTimeout: pingAfter, PingTimeout: pingWait, WriteByteTimeout: writeTime,
			CountError: o.Metrics.failed,
		},
		ConnContext: connContext,
		ErrorLog:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	if o.Draining != nil {
		s.h2.RegisterOnShutdown(o.Draining)
	}
	return s
}

// Serve accepts connections on ln until Shutdown or Close; then it returns
// http.ErrServerClosed.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(http.ErrServerClosed, ln.Close())
	}
	s.ln, s.plain, s.frames = ln, newInlet(ln.Addr()), newInlet(ln.Addr())
	s.mu.Unlock()
	var engines sync.WaitGroup
	defer engines.Wait()
	failed := make(chan error, 2)
	run := func(e Engine, in *inlet) {
		engines.Go(func() {
			if err := e.Serve(in); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
				_ = ln.Close() // Accept reports it
			}
		})
	}
	run(s.h2, s.frames)
	if s.o.Engine != nil {
		run(s.o.Engine, s.plain)
	}
	err := s.accept(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return err
	}
	select {
	case err = <-failed:
	default:
	}
	_ = errors.Join(s.plain.Close(), s.frames.Close(), s.both(Engine.Close)) // nobody else ends the other engine
	return err
}

func (s *Server) accept(ln net.Listener) error {
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(nc)
			continue
		case s.ctx.Err() != nil:
			return http.ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second) // out of files, or a client that has left already
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

// Retire makes every answer of the HTTP/1.1 engine its connection's last, if the
// engine can. HTTP/2 says goodbye where the Handler sets "Connection: close".
func (s *Server) Retire() {
	if e, ok := s.o.Engine.(interface{ Retire() }); ok {
		e.Retire()
	}
}

// Shutdown stops listening and lets exchanges under way finish, as those of both
// engines do.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	s.shakes.Wait()
	return s.both(func(e Engine) error { return e.Shutdown(ctx) })
}

// Close stops listening and closes every connection.
func (s *Server) Close() error {
	s.stopListening()
	return s.both(Engine.Close)
}

func (s *Server) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.stop()
	if s.ln != nil {
		_ = s.ln.Close() // Accept reports it
	}
}

func (s *Server) both(f func(Engine) error) error {
	if s.o.Engine == nil {
		return f(s.h2)
	}
	done := make(chan error, 1)
	go func() { done <- f(s.o.Engine) }() // waited for below
	return errors.Join(f(s.h2), <-done)
}

// An inlet is a listener whose connections somebody else has accepted.
type inlet struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newInlet(addr net.Addr) *inlet {
	return &inlet{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

// give brings a connection in, or closes it where nobody accepts any more.
func (i *inlet) give(nc net.Conn) {
	select {
	case i.conns <- nc:
	case <-i.done:
		_ = nc.Close()
	}
}

// Accept implements net.Listener.
func (i *inlet) Accept() (net.Conn, error) {
	select {
	case nc := <-i.conns:
		return nc, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *inlet) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

// Addr implements net.Listener.
func (i *inlet) Addr() net.Addr { return i.addr }
