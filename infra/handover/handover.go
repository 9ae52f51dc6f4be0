// Package handover lets a process take the listening sockets of the one that it
// replaces, so that no connection is refused or lost while one follows the other.
//
// The sockets come from the process that serves at the path of a control socket
// (a Unix socket, over which descriptors are passed), or from systemd (LISTEN_FDS),
// or they are opened. The old process goes on until the new one says that it is
// ready; where the new one fails before that, nothing has happened. A socket that
// both hold is one queue in the kernel: what arrives while neither accepts waits.
package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	answerTime = 5 * time.Second        // for the other process to say the next thing
	readyTime  = time.Minute            // for a new process to get ready
	askEvery   = 50 * time.Millisecond  // whether it is
	hello      = "cellway handover 1\n" // with the descriptors
	ready      = "ready\n"              // of the new process: it is going to accept
	yours      = "yours\n"              // of the old one: it accepts no more from now on
	mine       = "mine\n"               // of the old one: it goes on; only without a word is it gone
)

// Sockets are the listening sockets of a process. Open them, Listen at each
// address, Begin when requests can be served, and then Run.
type Sockets struct {
	path    string
	begun   chan struct{} // until then nothing is accepted
	taken   chan struct{} // another process is ready
	from    *net.UnixConn // to the process that is replaced; nil where there is none
	since   time.Time     // when that one said hello
	systemd bool

	mu      sync.Mutex
	handed  []*net.TCPListener // and not asked for yet
	ours    []*Listener
	control *net.UnixListener
	retired bool
}

// Open takes the sockets that this process is handed. path is the control
// socket's; "" is none, and then nobody can take over from this process either.
func Open(ctx context.Context, path string) (*Sockets, error) {
	s := &Sockets{path: path, begun: make(chan struct{}), taken: make(chan struct{})}
	var err error
	if s.handed, err = inherited(); err != nil {
		return nil, err
	}
	s.systemd = len(s.handed) > 0
	if path == "" {
		return s, nil
	}
	if err := s.take(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Listen is the socket for addr that was handed over, or a new one.
func (s *Sockets) Listen(ctx context.Context, addr string) (net.Listener, error) {
	want, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ln := range s.handed {
		if got, ok := ln.Addr().(*net.TCPAddr); ok && serves(got, want) {
			s.handed = append(s.handed[:i], s.handed[i+1:]...)
			return s.own(ln), nil
		}
	}
	ln, err := quiet.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen at %s: not TCP", addr), ln.Close())
	}
	return s.own(tcp), nil
}

func (s *Sockets) own(ln *net.TCPListener) *Listener {
	l := &Listener{TCPListener: ln, of: s, closed: make(chan struct{})}
	s.ours = append(s.ours, l)
	return l
}

// serves reports whether a socket at got serves want; a wildcard address is one
// in every family.
func serves(got, want *net.TCPAddr) bool {
	anywhere := func(a *net.TCPAddr) bool { return len(a.IP) == 0 || a.IP.IsUnspecified() }
	return got.Port == want.Port && (got.IP.Equal(want.IP) || anywhere(got) && anywhere(want))
}

// Begin lets the listeners accept. A process that replaces another waits until
// check is content, and then makes the other one accept no more. After an error
// the other goes on as if nothing had been.
func (s *Sockets) Begin(ctx context.Context, check func(context.Context) error) error {
	if err := s.dropUnused(); err != nil {
		return err
	}
	err := s.succeed(ctx, check)
	if err == nil {
		err = s.publish()
	}
	if err != nil {
		return err
	}
	close(s.begun)
	return nil
}

// dropUnused lets go of sockets that no setting names: whoever connects to one
// would wait without end.
func (s *Sockets) dropUnused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ln := range s.handed {
		if s.systemd {
			return fmt.Errorf("LISTEN_FDS hands over a socket at %s, and no setting has that address", ln.Addr())
		}
		_ = ln.Close() // a copy, and the other process closes its own
	}
	s.handed = nil
	return nil
}

// Taken is closed when another process has taken over: Retire, finish, and end.
func (s *Sockets) Taken() <-chan struct{} { return s.taken }

// Retire accepts no more, and leaves open what servers have accepted: their Accept
// waits until they close their listener. Nobody is given anything after it: who
// starts now has the sockets of a process that has taken over, or listens by itself.
func (s *Sockets) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	for _, l := range s.ours {
		_ = l.TCPListener.Close() // Accept reports it
	}
	if s.control != nil { // after the others: who is refused here finds their addresses free
		_ = s.control.Close() // Run returns
		s.control = nil
	}
}

// Leave is Retire for a process that ends without a successor, which can start
// while this one finishes. Without a control socket there is none to start so.
func (s *Sockets) Leave() {
	if s.path != "" {
		s.Retire()
	}
}

// Close lets go of everything.
func (s *Sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, ln := range s.handed {
		errs = append(errs, ln.Close())
	}
	for _, l := range s.ours {
		_ = l.Close() // its server may have done it
	}
	if s.control != nil {
		errs = append(errs, s.control.Close())
		s.control = nil
	}
	if s.from != nil {
		errs = append(errs, s.from.Close())
		s.from = nil
	}
	return errors.Join(errs...)
}

// A Listener is one of the Sockets.
type Listener struct {
	*net.TCPListener
	of     *Sockets
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.of.begun:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	nc, err := l.TCPListener.Accept()
	if errors.Is(err, net.ErrClosed) {
		<-l.closed // a socket that has retired only: its server goes on
	}
	return nc, err
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	if err := l.TCPListener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
