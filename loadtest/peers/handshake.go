package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// shakeHands makes TLS connections at a fixed rate and gives each up when its
// handshake is done. spec.Conns of them are under way at most.
func shakeHands(ctx context.Context, spec loadSpec) (loadResult, error) {
	h := &handshakes{spec: spec, config: &tls.Config{
		InsecureSkipVerify: true, ServerName: host(1), //nolint:gosec // the certificate of this run
		// Who can does more than X25519, at a price: all are to do the same.
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	}}
	h.config.ClientSessionCache = &h.ticket
	if spec.Resumed {
		if err := h.fetchTicket(ctx); err != nil {
			return loadResult{}, err
		}
	}
	began := time.Now()
	interval := time.Second / time.Duration(spec.Rate)
	var wg sync.WaitGroup
	for n := range spec.Conns {
		wg.Go(func() {
			for due := time.Duration(n) * interval; due < spec.For; due += time.Duration(spec.Conns) * interval {
				if !loadtest.Pause(ctx, due-time.Since(began)) {
					return
				}
				h.count(h.one(ctx))
			}
		})
	}
	wg.Wait()
	if h.done == 0 {
		return loadResult{}, errors.Join(fmt.Errorf("none of %d handshakes succeeded", h.failed), h.first, ctx.Err())
	}
	return loadResult{Done: h.done, Failed: h.failed, Took: time.Since(began)}, nil
}

// handshakes is one run's state.
type handshakes struct {
	spec   loadSpec
	config *tls.Config
	ticket ticket

	mu           sync.Mutex
	done, failed int
	first        error
}

// A ticket is the one session that all resume. A client of Go's would use it once.
type ticket struct {
	mu    sync.Mutex
	state *tls.ClientSessionState
	keep  bool // what the next handshake brings
}

// Get implements tls.ClientSessionCache.
func (t *ticket) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.state != nil
}

// Put implements tls.ClientSessionCache.
func (t *ticket) Put(_ string, s *tls.ClientSessionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep && s != nil {
		t.state, t.keep = s, false
	}
}

// handshakeTime bounds one connection.
const handshakeTime = 10 * time.Second

func (h *handshakes) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.spec.Addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, h.config)
	if err := errors.Join(raw.SetDeadline(time.Now().Add(handshakeTime)), conn.HandshakeContext(ctx)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// one is one connection. It reads to the end: what closes with bytes unread resets
// the connection, and the proxy has an error to deal with.
func (h *handshakes) one(ctx context.Context) error {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if resumed := conn.ConnectionState().DidResume; resumed != h.spec.Resumed {
		return fmt.Errorf("resumed is %v", resumed)
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn) // who ends without a goodbye has done the handshake all the same
	return nil
}

// fetchTicket has a request answered: tickets come with the first bytes that are read.
func (h *handshakes) fetchTicket(ctx context.Context) error {
	h.ticket.keep = true
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /b/1 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host(1)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	if _, ok := h.ticket.Get(""); !ok {
		return errors.New("the proxy gives no ticket")
	}
	return nil
}

func (h *handshakes) count(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.done++
		return
	}
	h.failed++
	if h.first == nil {
		h.first = err
	}
}
