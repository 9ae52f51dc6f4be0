package h1

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleConnectionsHaveNoGoroutine, neither those over TLS nor those that a loop gave
// away, which takes them back, as often as they are idle. It is not parallel: it looks at all goroutines.
func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(nil)
		wires := make([]*wire, 24)
		for i := range wires {
			wires[i] = n.dial(t)
		}
		for round := range 3 {
			for i, w := range wires {
				n.asks(t, w, fmt.Sprint("r", round, "c", i))
			}
			n.asleep(t, len(wires))
			eventually(t, "no goroutine has a connection", func() bool {
				buf := make([]byte, 1<<20)
				return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "h1.(*conn)")
			})
		}
	})
}

func TestNapsEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, n *napper, w *wire){
		"by the client's close": func(_ *testing.T, _ *napper, w *wire) { _ = w.Close() },
		"by the end of its half": func(t *testing.T, _ *napper, w *wire) {
			_ = w.Conn.(interface{ CloseWrite() error }).CloseWrite()
			w.ends()
		},
		"by a reset": func(_ *testing.T, _ *napper, w *wire) {
			nc := w.Conn
			if s, ok := nc.(*tls.Conn); ok {
				nc = s.NetConn()
			}
			_ = nc.(*net.TCPConn).SetLinger(0)
			_ = nc.Close()
		},
		"by Shutdown": func(t *testing.T, n *napper, w *wire) {
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			w.ends()
		},
		"by Close": func(_ *testing.T, n *napper, w *wire) {
			_ = n.Server.Close()
			w.ends()
		},
		"by a request, the last one": func(t *testing.T, n *napper, w *wire) {
			n.Retire()
			if resp := n.asks(t, w, "last"); !resp.Close {
				t.Error("it goes on")
			}
			w.ends()
		},
		"by what is no request": func(_ *testing.T, _ *napper, w *wire) {
			w.send("no\r\n\r\n")
			if got := w.ends(); !strings.Contains(got, " 400 ") {
				t.Errorf("got %q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
				n := start(nil)
				w, other := n.dial(t), n.dial(t)
				n.asks(t, other, "other")
				n.asks(t, w, "a")
				n.asleep(t, 2)
				end(t, n, w)
				_ = other.Close()
				eventually(t, "all are forgotten", func() bool {
					n.Server.mu.Lock()
					defer n.Server.mu.Unlock()
					return len(n.conns) == 0 && n.now.Load() == 0
				})
				n.asleep(t, 0)
			})
		})
	}
}

// TestNapsAreNoLongerThanIdle, and the oldest end first.
func TestNapsAreNoLongerThanIdle(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Idle = 20 * time.Millisecond })
		for i := range 3 {
			wires := []*wire{n.dial(t), n.dial(t), n.dial(t)}
			for _, w := range wires {
				n.asks(t, w, fmt.Sprint(i))
			}
			for _, w := range wires {
				w.ends()
			}
		}
	})
}

func TestNapsBeginWithinIdle(t *testing.T) {
	t.Parallel()
	s := &Server{Nap: time.Hour, Idle: time.Second}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if err := s.start(ln); err != nil || s.Nap != s.Idle {
		t.Errorf("got %v, %v", s.Nap, err)
	}
}

// TestHalfARecordOverANap: a TLS record whose first half was received before the nap,
// and one whose first half ends the nap, are whole when the second half comes.
func TestHalfARecordOverANap(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Nap = 20 * time.Millisecond })
		if n.tls == nil {
			t.Skip("no records")
		}
		w, raw := n.dialHalver(t)
		before, during := false, false
		for i := 0; !before || !during; i++ {
			nonce := fmt.Sprint("n", i)
			n.asks(t, w, "first"+nonce)
			if i%2 == 1 { // else the first half is there before the nap, or it is as if not
				n.asleep(t, 1)
			}
			slept, last := n.napping() // on a busy machine it may nap already
			had := n.read.Load()
			raw.halve = true
			w.send(request(nonce))
			raw.halve = false
			eventually(t, "half a record is read, and then the connection naps or has napped", func() bool {
				read := n.read.Load() - had
				now, ever := n.napping()
				before = before || i%2 == 0 && read == int64(raw.sent) && now == 1 && ever > last
				during = during || i%2 == 1 && read == int64(raw.sent) && now == 0
				return read == int64(raw.sent) && (now == 1 || ever > last || slept == 1 || i%2 == 1)
			})
			raw.rest(t)
			n.gets(t, w, nonce)
		}
	})
}

// TestHalfARecordPutsOffTheEndOnce: who sends a part of a record and no more is not
// waited for without end.
func TestHalfARecordPutsOffTheEndOnce(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		t.Parallel()
		n := start(func(s *Server) { s.Idle, s.Whole = 50*time.Millisecond, 50*time.Millisecond })
		if n.tls == nil {
			t.Skip("no records")
		}
		w, raw := n.dialHalver(t)
		n.asks(t, w, "first")
		raw.halve = true
		w.send(request("second"))
		w.ends()
	})
}

// TestCanariesOverNaps: connections that nap before each request, all at once, get
// their own answers, and see nothing of others.
func TestCanariesOverNaps(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(nil)
		var all sync.WaitGroup
		for i := range 16 {
			w := n.dial(t)
			all.Go(func() {
				for j := range 50 {
					nonce := fmt.Sprint("c", i, "r", j)
					if j%7 == 6 { // two at once: the second is in memory when the first is answered
						w.send(request(nonce) + request("second"+nonce))
						n.gets(t, w, nonce)
						n.gets(t, w, "second"+nonce)
						continue
					}
					n.asks(t, w, nonce)
				}
			})
		}
		all.Wait()
		n.asleep(t, 16)
		if _, ever := n.napping(); ever < 16 && (n.Loops == 0 || n.tls != nil) {
			t.Errorf("only %d naps", ever)
		}
	})
}

// TestNapsWhileClientsComeAndGo: bytes, ends and a Shutdown meet naps at all moments,
// and no connection is left.
func TestNapsWhileClientsComeAndGo(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Idle = time.Millisecond })
		var all sync.WaitGroup
		for i := range 16 {
			wires := make([]*wire, 4)
			for j := range wires {
				wires[j] = n.dial(t)
			}
			all.Go(func() {
				for _, w := range wires {
					for range i % 5 {
						w.send(request("x"))
						if _, _, _, err := w.answer("POST"); err != nil {
							break // idle for too long, or shut down
						}
					}
					_ = w.Close()
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		all.Wait()
		n.asleep(t, 0)
	})
}

// TestWhoLeavesIsNoticedLongAfterTheNap: an exchange under way is watched beyond the
// time at which its connection would nap.
func TestWhoLeavesIsNoticedLongAfterTheNap(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		told := make(chan struct{})
		n := start(func(s *Server) {
			s.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				close(told)
			})
		})
		w := n.dial(t)
		w.send("GET /handler/waits HTTP/1.1\r\nHost: a\r\n\r\n")
		eventually(t, "it is watched", func() bool {
			n.Server.mu.Lock()
			defer n.Server.mu.Unlock()
			for c := range n.conns {
				c.watcher.mu.Lock()
				defer c.watcher.mu.Unlock()
				return c.looks != nil
			}
			return false
		})
		_ = w.Close()
		select {
		case <-told:
		case <-time.After(patience):
			t.Error("nobody noticed")
		}
	})
}

// TestWhoCannotNapWaitsAwake, and is served, and ended when it was idle for too long.
func TestWhoCannotNapWaitsAwake(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		t.Parallel()
		n := start(func(s *Server) { s.Idle, s.Whole = 50*time.Millisecond, 50*time.Millisecond })
		n.naps.stop() // as where the kernel watches no more
		w := n.dial(t)
		for i := range 3 {
			n.asks(t, w, fmt.Sprint("n", i))
		}
		w.ends()
	})
}

// TestWhoCannotGoHomeNaps, where descriptors are short, and is served after that. It is not
// parallel: the limit is the whole process's.
func TestWhoCannotGoHomeNaps(t *testing.T) {
	s, _, addr := coursing(t, 1)
	n := &napper{Server: s}
	s.naps.mu.Lock()
	if err := s.naps.open(); err != nil {
		t.Fatal(err)
	}
	s.naps.mu.Unlock()
	c := dial(t, addr)
	c.send("GET /handler HTTP/1.1\r\nHost: a\r\n\r\n")
	c.until(`GET /handler ""`)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	c.send("GET /refused HTTP/1.1\r\nHost: a\r\n\r\n")
	c.until("no to /refused")
	n.asleep(t, 1)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.send("GET /refused HTTP/1.1\r\nHost: a\r\n\r\n")
		c.until("no to /refused")
	}
	if _, ever := n.napping(); ever > 4 {
		t.Errorf("it napped %d times", ever)
	}
}

// TestManyNapsAreTidiedAfter: once, when no more begin, and not again right away.
func TestManyNapsAreTidiedAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &naps{}
		begin := func(many int) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for range many {
				n.begun()
			}
		}
		fresh := func(after time.Duration) int {
			time.Sleep(after) // virtual
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.fresh
		}
		begin(tidyFrom - 1)
		if got := fresh(time.Hour); got != tidyFrom-1 {
			t.Errorf("few: got %d", got)
		}
		begin(1)
		if got := fresh(tidyAfter * 9 / 10); got != tidyFrom {
			t.Errorf("at once: got %d", got)
		}
		begin(1)
		if got := fresh(tidyAfter * 9 / 10); got != tidyFrom+1 {
			t.Errorf("while they begin: got %d", got)
		}
		if got := fresh(tidyAfter); got != 0 {
			t.Errorf("after them: got %d", got)
		}
		begin(tidyFrom)
		if got := fresh(tidyEvery / 2); got != tidyFrom {
			t.Errorf("right after: got %d", got)
		}
		if got := fresh(tidyEvery); got != 0 {
			t.Errorf("later: got %d", got)
		}
	})
}
