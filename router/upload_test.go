package router_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/pool"
)

// kept is how much of a body the router can send again.
const kept = 64 << 10

// uploads sends a body of which half is there, and the rest when goOn is closed.
func (w *world) uploads(size int, goOn <-chan struct{}) answer {
	w.tb.Helper()
	rest, feed := io.Pipe()
	ctx, cancel := context.WithCancel(w.tb.Context())
	defer cancel()
	go func() { // ends with the exchange
		select {
		case <-goOn:
			_, _ = io.WriteString(feed, strings.Repeat("x", size-size/2))
			_ = feed.Close()
		case <-ctx.Done():
		}
	}()
	r := w.request(w.tb.Context(), "POST", acme, "/", "")
	r.ContentLength = int64(size)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(strings.Repeat("x", size/2)), rest), rest}
	defer func() { _ = rest.Close() }() // net/http's client of HTTP/1.1 goes on sending
	return w.send(r)
}

// TestACellThatFailsDuringAnUploadIsNoClients: that we end the upload ourselves then, whose
// client has yet to send, is not told as the client's being late.
func TestACellThatFailsDuringAnUploadIsNoClients(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		fails http.HandlerFunc
		code  problem.Kind
	}{
		"dies": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, problem.CellUnavailable},
		"does not serve it": {func(w http.ResponseWriter, _ *http.Request) {
			stale(w, "active")
		}, problem.TenantMoving},
	} {
		for _, on := range append(engines, "HTTP/2") {
			t.Run(what+", "+on, func(t *testing.T) {
				t.Parallel()
				goOn, never := make(chan struct{}), make(chan struct{})
				cell := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost {
						return // a probe
					}
					_, _ = io.ReadFull(r.Body, make([]byte, kept+1))
					defer close(goOn)
					tt.fails(w, r)
				})
				engine, waits := on, never
				switch on {
				case "std":
					waits = goOn // net/http says that the cell is gone when it has a piece to send
				case "HTTP/2":
					engine = "h1"
				}
				w := newWorldOn(t, engine, map[directory.CellID]http.Handler{"c1": cell}, nil)
				if on == "HTTP/2" {
					w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
					w.client = overH2C(t)
				}
				w.want(w.uploads(16*kept, waits), 503, tt.code) // so much that the cell's net/http waits for no rest of it
			})
		}
	}
}

// TestARefusalOvertakesALongBody: a cell may have refused before any of the body was sent. The
// client is told to come back, and not that something is wrong with its body, which we end
// ourselves; what is kept whole is sent to the new owner.
func TestARefusalOvertakesALongBody(t *testing.T) {
	t.Parallel()
	for _, on := range []string{"h1", "loop", "HTTP/2"} { // net/http takes no answer before it has asked
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			engine := on
			if on == "HTTP/2" {
				engine = "h1"
			}
			w := newWorldOn(t, engine, map[directory.CellID]http.Handler{"c2": named("c2")}, nil)
			if on == "HTTP/2" {
				w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
				w.client = overH2C(t)
			}
			w.at("c1", "http://"+refuser(t))
			for n := range 200 { // which of the two is faster, the answer or the body, is left to chance
				size, want := 4*kept, 503
				if n%10 == 0 {
					size, want = kept, 200
				}
				w.placed(place(1, "c1", 2*n+2, directory.Active), "acme")
				placed, over := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(placed)
					for held := false; !held; time.Sleep(time.Millisecond) { // the pause of a poll
						select {
						case <-over:
							held = true
						default:
							held = w.metric("router_held_requests") > 0
						}
					}
					w.placed(place(1, "c2", 2*n+3, directory.Active), "acme")
				}()
				a := w.do("POST", acme, "/", strings.Repeat("x", size))
				close(over)
				if <-placed; a.StatusCode != want || want == 503 && a.code() != problem.TenantMoving {
					t.Fatalf("%d bytes: got %d %.100q, want %d", size, a.StatusCode, a.body, want)
				}
			}
		})
	}
}

// refuser is a cell that refuses what it has not read yet.
func refuser(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	each(t, ln, func(c net.Conn) {
		const said = `{"code":"stale_epoch"}`
		_, _ = fmt.Fprintf(c, "HTTP/1.1 421 Misdirected Request\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
		_, _ = io.Copy(io.Discard, c)
	})
	return ln.Addr().String()
}

// each serves each connection of ln, until the test has ended.
func each(t *testing.T, ln net.Listener, serve func(c net.Conn)) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait() // the router has ended, and its connections have
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
}

// TestAnAnswerWaitsForNoUpload: a cell that has answered and does not read on, nor close, keeps
// its client waiting for nothing, also where all of the body has come and is to be sent.
func TestAnAnswerWaitsForNoUpload(t *testing.T) {
	t.Parallel()
	for _, on := range engines {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			served := make(chan struct{})
			lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) { // so that its kernel takes little
				cerr := raw.Control(func(fd uintptr) {
					err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096), syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536))
				})
				return errors.Join(cerr, err)
			}}
			ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			each(t, ln, func(c net.Conn) {
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil && r.Method == http.MethodPost {
					time.Sleep(200 * time.Millisecond) // what the cell's work takes
					_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
					<-served
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // to a probe
			})
			w := newWorldOn(t, on, nil, func(o *router.Options, l *pool.Limits) { o.CellTimeout, l.Timeout = time.Minute, time.Minute })
			w.at("c1", "http://"+ln.Addr().String())
			w.client.Timeout = 20 * time.Second
			defer close(served)
			for range 5 {
				if a := w.do("POST", acme, "/", strings.Repeat("x", 4*kept)); a.StatusCode != http.StatusRequestEntityTooLarge || a.body != "no" {
					t.Fatalf("got %d %.100q", a.StatusCode, a.body)
				}
			}
		})
	}
}

// overH2C is a client of HTTP/2 without TLS.
func overH2C(t *testing.T) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// TestEndlessInterimAnswersEnd: a cell that says 103 without end is cut off, and is what the
// client is told of, also where a part of the body is sent to it afterwards.
func TestEndlessInterimAnswersEnd(t *testing.T) {
	t.Parallel()
	for _, on := range engines {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			cut := make(chan struct{}, 2)
			cell := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					return // a probe
				}
				nc, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				defer func() { _ = nc.Close() }()
				for err == nil {
					_, err = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n\r\n")
				}
				cut <- struct{}{}
			})
			w := newWorldOn(t, on, map[directory.CellID]http.Handler{"c1": cell}, nil)
			w.want(w.do("POST", acme, "/", "x"), 502, problem.BadGateway)
			<-cut
			w.want(w.uploads(4*kept, cut), 502, problem.BadGateway)
		})
	}
}
