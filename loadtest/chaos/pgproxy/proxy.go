// Package pgproxy stands between a client and its Postgres server and breaks one
// statement when it is told to: before the server sees it, half way, or after the
// server has executed it and before the client learns of it. Or the network between
// them is slow from a statement on, which it can be before other servers, too.
//
// It reads the wire protocol (version 3) only as far as it has to: where a message
// ends, which messages make the server act, and when the server is ready again.
// Connections are expected without TLS.
package pgproxy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// A Kind is what happens to a statement.
type Kind string

// The kinds.
const (
	Before Kind = "before" // the connection ends, and the server never sees the statement
	Stall  Kind = "stall"  // the statement waits for Fault.Stall and goes on
	Cut    Kind = "cut"    // half of the statement's last message arrives, then the connection ends
	Answer Kind = "answer" // the server executes it; the connection ends instead of its answer
	Slow   Kind = "slow"   // from it on, for Fault.Stall, every connection has Fault.Pace
)

// Kinds is all of them.
func Kinds() []Kind { return []Kind{Before, Stall, Cut, Answer, Slow} }

// A Fault is what to do to one statement: a message that makes the server act,
// which is a simple query, a Sync (the end of Parse, Bind, Execute) or the end of
// a COPY.
type Fault struct {
	Kind    Kind
	Nth     int           // of the statements from now on, over all connections; 0 is 1
	Commits bool          // count transactions' commits only: where an answer matters most
	Stall   time.Duration // how long, where Kind is Stall or Slow
	Pace    Pace          // where Kind is Slow
}

// A Proxy forwards connections to one server. Its methods may be called concurrently.
type Proxy struct {
	server string
	opaque bool // it is no Postgres server
	ln     net.Listener
	wg     sync.WaitGroup
	done   chan struct{} // closed by Close: ends stalls
	line   line

	mu    sync.Mutex
	conns map[net.Conn]bool
	fault *Fault        // armed
	left  int           // statements until it strikes
	fired chan struct{} // closed when it has struck
}

// Listen starts a Proxy for the server at host:port, on a free port of the
// loopback interface. Close ends it.
func Listen(server string) (*Proxy, error) { return listen(server, false) }

// ListenOpaque is Listen for a server that speaks any protocol. Of faults it knows Slow only, and
// takes what a client sends at once for a statement.
func ListenOpaque(server string) (*Proxy, error) { return listen(server, true) }

func listen(server string, opaque bool) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", server, err)
	}
	p := &Proxy{server: server, opaque: opaque, ln: ln, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

// URL is raw, a URL of the proxy's server, by way of the proxy.
func (p *Proxy) URL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("parse url: it is malformed") // it may hold a password
	}
	u.Host = p.ln.Addr().String()
	return u.String(), nil
}

// Arm sets the fault for one of the statements to come; it takes the place of one
// that has not struck. The channel is closed when it has struck.
func (p *Proxy) Arm(f Fault) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.left, p.fired = &f, max(f.Nth, 1), make(chan struct{})
	return p.fired
}

// Disarm takes back a fault that has not struck, and ends one that makes slow.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
	p.line.slow(Pace{}, time.Time{})
}

// take counts a statement and gives the fault that it meets, nil where none.
func (p *Proxy) take(commit bool) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil || p.fault.Commits && !commit {
		return nil
	}
	if p.left--; p.left > 0 {
		return nil
	}
	f := p.fault
	p.fault = nil
	close(p.fired)
	return f
}

// Close ends all connections and returns when nothing is left of them.
func (p *Proxy) Close() error {
	p.mu.Lock()
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	err := p.ln.Close()
	for c := range p.conns {
		_ = c.Close() // it is ended, not finished
	}
	p.mu.Unlock()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

// keep makes a connection known to Close, unless that was called already.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close() // it is ended, not finished
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// serve forwards one connection until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.keep(client) {
		return
	}
	server, err := net.DialTimeout("tcp", p.server, 5*time.Second)
	if err != nil {
		return // as if the server itself had refused
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	s := &session{proxy: p, client: client, server: server}
	there, back := s.statements, s.answers
	if p.opaque {
		there, back = func() { p.relay(server, client, true) }, func() { p.relay(client, server, false) }
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		back()
		p.drop(client) // the other direction must end too
		p.drop(server)
	})
	there()
	if !s.awaitsAnswer() {
		p.drop(server)
	}
	answers.Wait()
}

// stall waits; false where the proxy is closed meanwhile.
func (p *Proxy) stall(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.done:
		return false
	}
}
