package h1

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// slowly is a Direct whose flights say when their client is slow and how they have ended.
type slowly struct {
	directly
	goesOn bool
	slow   chan struct{}
	ended  chan error
}

func (d *slowly) Take(f *Flight) Course {
	f.Slow = d.tell
	return d.directly.Take(f)
}

func (d *slowly) Done(f *Flight) { d.ended <- f.Err }

func (d *slowly) tell() bool {
	d.slow <- struct{}{}
	return d.goesOn
}

// ServeHTTP is what is no flight, or over HTTP/2.
func (d *slowly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if cause := recover(); cause != nil {
			d.ended <- http.ErrAbortHandler
			panic(cause)
		}
		d.ended <- nil
	}()
	if err := d.up.Forward(w, r, &Outgoing{Slow: d.tell}); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// eachUnread asks for /path on every driver, and by the handler, and over HTTP/2, and reads
// nothing of the answer until read is called, which says what it was.
func eachUnread(t *testing.T, cell http.HandlerFunc, goesOn bool, test func(t *testing.T, d *slowly, read func() []byte)) {
	t.Helper()
	start := func(t *testing.T) *slowly {
		up := &Upstream{Addr: stdServerOf(t, cell)}
		t.Cleanup(up.Close)
		return &slowly{directly{up: up}, goesOn, make(chan struct{}, 8), make(chan error, 8)}
	}
	for _, path := range []string{"/flight", "/handler"} {
		t.Run(path[1:], func(t *testing.T) {
			eachDriver(t, func(t *testing.T, loops int) {
				d := start(t)
				c := narrowly(t, &Server{Direct: d, Handler: d, Loops: loops})
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				test(t, d, func() []byte {
					got, _ := io.ReadAll(c) // one that is cut ends, too
					return got
				})
			})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		d := start(t)
		read, _ := unreadH2(t, d)
		test(t, d, read)
	})
}

// unreadH2 asks for / with a window that is shut until the answer is read.
func unreadH2(t *testing.T, h http.Handler) (read func() []byte, open func(n uint32)) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}} //nolint:gosec // this test's certificate
	c, err := d.DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err = io.WriteString(c, http2.ClientPreface)
	if err == nil {
		err = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}
	if err == nil {
		err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	open = func(n uint32) {
		_ = fr.WriteWindowUpdate(1, n) // a test that needs it fails without
		_ = fr.WriteWindowUpdate(0, n)
	}
	return func() (got []byte) {
		open(1 << 30)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Errorf("read a frame: %v", err)
				return got
			}
			switch f := f.(type) {
			case *http2.DataFrame:
				got = append(got, f.Data()...)
			case *http2.RSTStreamFrame:
				return got
			}
			if f.Header().Flags.Has(http2.FlagDataEndStream) && f.Header().Type != http2.FrameSettings {
				return got
			}
		}
	}, open
}

// TestWhoIsSlowIsTold: who keeps an answer waiting is told of once, and has all of it when it
// reads on: one that has left the cell, and one that has not.
func TestWhoIsSlowIsTold(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"short": 20 << 10, "long": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			body := bytes.Repeat([]byte("#"), size)
			cell := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
			eachUnread(t, cell, true, func(t *testing.T, d *slowly, read func() []byte) {
				select {
				case <-d.slow:
				case err := <-d.ended:
					t.Fatalf("nobody was told, and it has ended: %v", err)
				case <-time.After(patience):
					t.Fatal("nobody was told of a client that does not read")
				}
				if got := bytes.Count(read(), []byte("#")); got != size {
					t.Errorf("got %d bytes, want %d", got, size)
				}
				if err := <-d.ended; err != nil || len(d.slow) > 0 {
					t.Errorf("it ended with %v; told once more: %d times", err, len(d.slow))
				}
			})
		})
	}
}

// TestWhoIsSlowIsCut where there is no place for it, and does not look served.
func TestWhoIsSlowIsCut(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	cell := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }
	eachUnread(t, cell, false, func(t *testing.T, d *slowly, read func() []byte) {
		select {
		case err := <-d.ended:
			if err == nil {
				t.Error("it was not cut")
			}
		case <-time.After(patience):
			t.Fatal("nobody cuts a client that does not read")
		}
		if got := read(); len(got) >= size {
			t.Errorf("got %d bytes of an answer that was cut", len(got))
		}
		if len(d.slow) != 1 {
			t.Errorf("told %d times", len(d.slow))
		}
	})
}

// TestASlowInterimAnswer: who does not take a 1xx answer is slow, too. What comes of the
// exchange afterwards is in order, also where the answer is for the handler.
func TestASlowInterimAnswer(t *testing.T) {
	t.Parallel()
	early := "HTTP/1.1 103 Early Hints\r\n"
	for i := range 3 { // all of them are more than any buffer of the client's
		early += fmt.Sprintf("X%d: %s\r\n", i, strings.Repeat("x", 9000))
	}
	early = strings.Repeat(early+"\r\n", 4)
	for name, final := range map[string]string{
		"for the client":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal",
		"for the handler": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\nfinal",
	} {
		for i, goesOn := range []bool{true, false, false} {
			path := [...]string{"/flight", "/flight", "/handler"}[i]
			t.Run(fmt.Sprint(name, " ", goesOn, " ", path), func(t *testing.T) {
				eachDriver(t, func(t *testing.T, loops int) {
					told := make(chan struct{})
					cell := func(w http.ResponseWriter, _ *http.Request) {
						nc, _, err := http.NewResponseController(w).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						defer nc.Close()
						_, _ = io.WriteString(nc, early)
						<-told
						_, _ = io.WriteString(nc, final)
						_, _ = nc.Read(make([]byte, 1)) // until the router ends it
					}
					up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(cell))}
					t.Cleanup(up.Close)
					d := &slowly{directly{up: up}, goesOn, make(chan struct{}, 8), make(chan error, 8)}
					c := narrowly(t, &Server{Direct: d, Handler: d, Loops: loops})
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					select {
					case <-d.slow:
					case <-time.After(patience):
						t.Fatal("nobody was told of a client that does not read")
					}
					close(told)
					got, err := io.ReadAll(c)
					if !goesOn && bytes.Contains(got, []byte("Content-Length")) {
						t.Error("an answer came after the cut")
					}
					whole := bytes.Count(got, []byte("HTTP/1.1 103")) == 4 && bytes.Count(got, []byte("HTTP/1.1 200")) == 1 && bytes.HasSuffix(got, []byte("final"))
					if whole != goesOn || goesOn && err != nil {
						t.Errorf("it was whole: %v; %d bytes, ...%q, %v", whole, len(got), got[max(0, len(got)-60):], err)
					}
					if err := <-d.ended; goesOn && err != nil {
						t.Errorf("it ended with %v", err)
					}
				})
			})
		}
	}
}

// TestWhoTricklesIsSlow: what is waited for adds up.
func TestWhoTricklesIsSlow(t *testing.T) {
	t.Parallel()
	cell := func(w http.ResponseWriter, _ *http.Request) {
		for range 4000 {
			_, _ = w.Write(bytes.Repeat([]byte("y"), 1000))
		}
	}
	up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(cell))}
	t.Cleanup(up.Close)
	d := &slowly{directly{up: up}, true, make(chan struct{}, 8), make(chan error, 8)}
	_, open := unreadH2(t, d)
	for tick := time.NewTicker(slowAfter / 5); ; { // each wait is far from slow
		select {
		case <-d.slow:
			return
		case err := <-d.ended:
			t.Fatalf("nobody was told, and it has ended: %v", err)
		case <-tick.C:
			open(4096)
		}
	}
}

// TestWhoSendsSlowlyIsTold: who keeps the cell waiting for its body is slow as well, and is
// cut where there is no place for it.
func TestWhoSendsSlowlyIsTold(t *testing.T) {
	t.Parallel()
	const size = 100_000
	for _, goesOn := range []bool{true, false} {
		start := func(t *testing.T) *slowly {
			up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				_, _ = fmt.Fprint(w, n)
			}))}
			t.Cleanup(up.Close)
			return &slowly{directly{up: up}, goesOn, make(chan struct{}, 8), make(chan error, 8)}
		}
		test := func(t *testing.T, d *slowly, send func() (status int, body string)) {
			select {
			case <-d.slow:
			case <-time.After(patience):
				t.Fatal("nobody was told of a client that does not send")
			}
			if !goesOn {
				<-d.ended // at once, whatever the client does
			}
			status, body := send()
			if served := status == 200 && body == fmt.Sprint(size); served != goesOn {
				t.Errorf("goes on: %v, and got %d %q", goesOn, status, body)
			}
		}
		for _, first := range []int{0, 70_000} {
			eachDriver(t, func(t *testing.T, loops int) {
				d := start(t)
				w := dial(t, serve(t, &Server{Direct: d, Handler: d, Loops: loops}))
				_ = w.SetDeadline(time.Now().Add(patience))
				_, _ = fmt.Fprintf(w, "POST /handler HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, first))
				test(t, d, func() (int, string) {
					_, _ = w.Write(make([]byte, size-first)) // of one that was cut it fails
					resp, err := http.ReadResponse(bufio.NewReader(w), nil)
					if err != nil {
						return 0, ""
					}
					defer resp.Body.Close()
					body, _ := io.ReadAll(resp.Body)
					return resp.StatusCode, string(body)
				})
			})
		}
		t.Run("HTTP/2", func(t *testing.T) {
			t.Parallel()
			d := start(t)
			s := httptest.NewUnstartedServer(d)
			s.EnableHTTP2 = true
			s.StartTLS()
			t.Cleanup(s.Close)
			body, sender := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			type answer struct {
				status int
				body   string
			}
			got := make(chan answer, 1)
			go func() {
				resp, err := s.Client().Do(r)
				if err != nil {
					got <- answer{}
					return
				}
				defer resp.Body.Close()
				all, _ := io.ReadAll(resp.Body)
				got <- answer{resp.StatusCode, string(all)}
			}()
			test(t, d, func() (int, string) {
				if goesOn {
					_, _ = sender.Write(make([]byte, size))
				}
				_ = sender.Close()
				a := <-got
				return a.status, a.body
			})
		})
	}
}

// TestAStreamThatIsNotTakenEnds: who takes nothing of a stream for so long is gone.
func TestAStreamThatIsNotTakenEnds(t *testing.T) {
	t.Parallel()
	cell := stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	start := func(t *testing.T) (*Upstream, http.HandlerFunc, chan struct{}) {
		up := &Upstream{Addr: cell, Patience: 50 * time.Millisecond}
		t.Cleanup(up.Close)
		over := make(chan struct{})
		return up, func(w http.ResponseWriter, r *http.Request) {
			_ = up.Forward(w, r, &Outgoing{Stream: func(func(Ending)) (func(), error) { return func() { close(over) }, nil }})
		}, over
	}
	ends := func(t *testing.T, over chan struct{}) {
		select {
		case <-over:
		case <-time.After(patience):
			t.Error("it goes on")
		}
	}
	eachDriver(t, func(t *testing.T, loops int) {
		up, h, over := start(t)
		c := narrowly(t, &Server{Direct: &directly{up: up}, Handler: h, Loops: loops})
		_, _ = io.WriteString(c, "GET /flight HTTP/1.1\r\nHost: a\r\n\r\n")
		ends(t, over)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		_, h, over := start(t)
		unreadH2(t, h)
		ends(t, over)
	})
}

// TestSilentStreams: a stream that was silent for longer than its client may take for a piece
// goes on, with pieces of any size, and ends whole.
func TestSilentStreams(t *testing.T) {
	t.Parallel()
	const bound = time.Second
	long := bytes.Repeat([]byte("#"), 30<<10)
	cell := stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, piece := range [][]byte{[]byte("first"), long} {
			_, _ = w.Write(piece)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(bound + bound/4) // the silence is the matter of the test
		}
		if r.URL.Path == "/ends" {
			return
		}
		<-r.Context().Done()
	}))
	for _, path := range []string{"/ends", "/told"} {
		stream := func(t *testing.T, get func(up *Upstream, h http.Handler) (string, *http.Client)) {
			up := &Upstream{Addr: cell, Patience: bound}
			t.Cleanup(up.Close)
			ends := make(chan func(Ending), 1)
			addr, client := get(up, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = up.Forward(w, r, &Outgoing{Stream: func(end func(Ending)) (func(), error) {
					ends <- end
					return func() {}, nil
				}})
			}))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got := make([]byte, len("first")+len(long))
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				t.Fatalf("the long piece: %v", err)
			}
			if path == "/told" {
				time.Sleep(bound + bound/4) // as above
				(<-ends)(Leaving)
			}
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("at its end: %q, %v", rest, err)
			}
		}
		eachDriver(t, func(t *testing.T, loops int) {
			stream(t, func(up *Upstream, h http.Handler) (string, *http.Client) {
				s := &Server{Handler: h, Direct: &directly{up: up}, Loops: loops}
				return "http://" + serve(t, s), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			})
		})
		t.Run("HTTP/2"+path, func(t *testing.T) {
			t.Parallel()
			stream(t, func(_ *Upstream, h http.Handler) (string, *http.Client) {
				s := httptest.NewUnstartedServer(h)
				s.EnableHTTP2 = true
				s.StartTLS()
				t.Cleanup(s.Close)
				return s.URL, s.Client()
			})
		})
	}
}
