package h1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// serving runs a Server with handler and what change does to it.
func serving(t *testing.T, handler http.HandlerFunc, change func(*Server)) (*Server, string) {
	t.Helper()
	s := &Server{Handler: handler}
	if change != nil {
		change(s)
	}
	return s, serve(t, s)
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// ends fails the test unless the connection ends, and gives what came before.
func (w *wire) ends() string {
	w.tb.Helper()
	got, err := io.ReadAll(w.from)
	if ne, is := errors.AsType[net.Error](err); is && ne.Timeout() {
		w.tb.Errorf("the connection goes on: %q", got)
	}
	return string(got)
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}, func(s *Server) {
		s.Head, s.Idle, s.Whole, s.Upload = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	})
	for name, in := range map[string]string{
		"nothing":         "",
		"part of a head":  "GET / HTTP/1.1\r\nHost: a\r\n",
		"one byte":        "G",
		"then nothing":    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"part of a body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhi",
		"part of a chunk": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := dial(t, addr)
			w.send(in)
			got := w.ends()
			if wantBad := strings.HasPrefix(name, "part of a ") && name != "part of a head"; strings.Contains(got, " 400 ") != wantBad {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestHandlersAnswer(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/small":
			_, _ = io.WriteString(w, "small")
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 10000))
		case "/length":
			h.Set("Content-Length", "5")
			_, _ = io.WriteString(w, "12345")
		case "/short":
			h.Set("Content-Length", "50")
			_, _ = io.WriteString(w, "12345")
		case "/long":
			h.Set("Content-Length", "2")
			_, _ = io.WriteString(w, "12345")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
			_, _ = io.WriteString(w, "no")
		case "/flush":
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		case "/split":
			h["X"] = []string{"a\r\nEvil: b", "good"}
			h["Y\r\nEvil"] = []string{"c"}
		case "/close":
			h.Set("Connection", "close")
		case "/panic":
			panic("no")
		case "/late":
			_, _ = io.WriteString(w, strings.Repeat("x", 10000))
			panic(http.ErrAbortHandler)
		}
	}, func(s *Server) { s.Panicked = func(any) {} })
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
		length       int64
		close, fails bool
	}{
		{"GET", "/small", 200, "small", 5, false, false},
		{"HEAD", "/small", 200, "", 5, false, false},
		{"GET", "/large", 200, strings.Repeat("x", 10000), -1, false, false},
		{"HEAD", "/large", 200, "", -1, false, false},
		{"GET", "/length", 200, "12345", 5, false, false},
		{"GET", "/short", 200, "", 50, false, true},
		{"GET", "/long", 200, "", 2, false, true},
		{"GET", "/204", 204, "", 0, false, false},
		{"GET", "/flush", 200, "ab", -1, false, false},
		{"GET", "/split", 200, "", 0, false, false},
		{"GET", "/close", 200, "", 0, true, false},
		{"GET", "/panic", 0, "", 0, false, true},
		{"GET", "/late", 200, "", -1, false, true},
		{"GET", "/nothing", 200, "", 0, false, false},
	} {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			t.Parallel()
			w := dial(t, addr)
			w.send(tt.method + " " + tt.path + host1 + "\r\n")
			status, body, resp, err := w.answer(tt.method)
			if tt.fails {
				if err == nil {
					t.Errorf("got %d %q, want it cut", status, body)
				}
				return
			}
			if err != nil || status != tt.status || body != tt.body || resp.ContentLength != tt.length || resp.Close != tt.close || resp.Header.Get("Date") == "" {
				t.Errorf("got %d %.20q, %v, %v", status, body, resp, err)
			}
			if tt.path == "/split" && (resp.Header.Get("Evil") != "" || fmt.Sprint(resp.Header["X"]) != "[good]") {
				t.Errorf("got %v", resp.Header)
			}
			if tt.close {
				w.ends()
			}
		})
	}
}

func TestBodiesThatNobodyReads(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, ok, nil)
	w := dial(t, addr)
	w.send("POST /" + host1 + "Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000) + "POST /" + host1 + "Content-Length: 10000000\r\n\r\n")
	if _, _, resp, err := w.answer("POST"); err != nil || resp.Close {
		t.Errorf("a small body: got %v, %v", resp, err)
	}
	if _, _, resp, err := w.answer("POST"); err != nil || !resp.Close {
		t.Errorf("a large body: got %v, %v", resp, err)
	}
	w.ends()
}

// TestContinue: the client is asked for the body only by who wants to read it.
func TestContinue(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			_, _ = io.Copy(w, r.Body)
		}
	}, nil)
	const rest = " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	w := dial(t, addr)
	w.send("POST /read" + rest)
	if line, err := w.from.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = w.from.ReadString('\n')
	w.send("hello")
	if _, body, _, err := w.answer("POST"); err != nil || body != "hello" {
		t.Errorf("got %q, %v", body, err)
	}
	w.send("POST /other" + rest)
	if got := w.ends(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "Connection: close\r\n") {
		t.Errorf("got %q, want an answer at once and the end", got)
	}
}

func TestAClientThatLeavesEndsTheContext(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}), make(chan struct{})
	_, addr := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	}, nil)
	w := dial(t, addr)
	w.send("GET /" + host1 + "\r\n")
	<-arrived
	_ = w.Close()
	<-left
}

// TestWhoHasSentMoreAndLeavesIsNoticed: by what comes after it, and by the kernel where
// there is no room for more. An event stream of a client that is gone had no other end.
func TestWhoHasSentMoreAndLeavesIsNoticed(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"a little": 100, "more than there is room for": 2 * inBytes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived, left := make(chan struct{}), make(chan struct{})
			_, addr := serving(t, func(_ http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
				close(left)
			}, nil)
			w := dial(t, addr)
			w.send("GET /" + host1 + "\r\n")
			<-arrived
			w.send(strings.Repeat("G", more))
			_ = w.Close()
			select {
			case <-left:
			case <-time.After(20 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}

// TestALongExchangeLosesNoByte: what a watcher read belongs to the next request.
func TestALongExchangeLosesNoByte(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	_, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			<-goOn
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}, nil)
	w := dial(t, addr)
	w.send("GET /long" + host1 + "\r\n")
	time.Sleep(2 * watchAfter) // that the watcher starts in time is likely, and not needed
	w.send("GET /next" + host1 + "\r\n")
	close(goOn)
	for _, want := range []string{"/long", "/next"} {
		if _, body, _, err := w.answer("GET"); err != nil || body != want {
			t.Errorf("got %q, %v, want %q", body, err, want)
		}
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	arrived, goOn, draining := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(arrived)
			<-goOn
		}
		ok(w, r)
	}, func(s *Server) { s.Draining = func() { close(draining) } })
	silent, kept, busy := dial(t, addr), dial(t, addr), dial(t, addr)
	kept.send("GET /" + host1 + "\r\n")
	if status, _, _, err := kept.answer("GET"); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	busy.send("GET /wait" + host1 + "\r\n")
	<-arrived
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	<-draining
	silent.ends()
	kept.ends()
	if c, err := net.Dial("tcp", addr); err == nil { //nolint:noctx // must fail at once
		_ = c.Close()
		t.Error("it still listens")
	}
	close(goOn)
	if _, body, resp, err := busy.answer("GET"); err != nil || body != "ok" || !resp.Close {
		t.Errorf("under way: got %q, %v, %v", body, resp, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownGivesUpAndCloseDoesNotWait(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s, addr := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}, func(s *Server) { s.Draining = func() {} })
	w := dial(t, addr)
	w.send("GET /" + host1 + "\r\n")
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	w.ends()
}

// TestTunnelsDoNotHoldUpAShutdown, and end with it.
func TestTunnelsDoNotHoldUpAShutdown(t *testing.T) {
	t.Parallel()
	f := newFront(t, newCell(t), patience)
	w := dial(t, f.addr)
	w.send("GET /socket" + host1 + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if status, _, _, err := w.answer("GET"); status != 101 || err != nil {
		t.Fatal(status, err)
	}
	if err := f.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	w.ends()
}

func TestRefusedSaysWhatAndCounts(t *testing.T) {
	t.Parallel()
	counted := make(chan Fault, 10)
	_, addr := serving(t, ok, func(s *Server) {
		s.Refused = func(f Fault, _ string, header http.Header) []byte {
			counted <- f
			header["X-C"], header["X-B"], header["X-A"] = []string{"3"}, []string{"2"}, []string{"1"}
			return []byte(`{"reason":"` + f.Reason() + `"}`)
		}
	})
	for f := None + 1; f < faults; f++ {
		if f.Reason() == "" || f.Error() == "" || f.Status() < 400 {
			t.Errorf("fault %d has no reason, text or status", f)
		}
	}
	for in, want := range map[string]Fault{
		"GET / HTTP/1.1\r\n\r\n": NoHost, "GET / HTTP/2.0\r\n": VersionRefused, "CONNECT a:1 HTTP/1.1\r\n": MethodRefused,
		"GET /" + strings.Repeat("x", 20000): TargetTooLong, "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 20000): LineTooLong,
	} {
		w := dial(t, addr)
		w.send(in)
		got := w.ends()
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", want.Status())) || !strings.HasSuffix(got, `{"reason":"`+want.Reason()+`"}`) || <-counted != want {
			t.Errorf("%.40q: got %q", in, got)
		}
		if !strings.Contains(got, "\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n") {
			t.Errorf("%.40q: got %q, want its fields in order", in, got)
		}
	}
}

// TestAHandlerBoundsTheBody: it can bring the end of what it reads nearer, and not lift it.
func TestAHandlerBoundsTheBody(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.SetReadDeadline(time.Time{}); err == nil {
			t.Error("the end was lifted")
		}
		if err := rc.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the body: %v", err)
		}
		ok(w, r)
	}, nil)
	w := dial(t, addr)
	w.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	if got := w.ends(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
}
