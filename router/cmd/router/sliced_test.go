package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestF23OneByteAtATime: between client, router and cell each segment is one byte,
// or a few at random, one after the other. Everybody reads the same as without.
func TestF23OneByteAtATime(t *testing.T) {
	t.Parallel()
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		b, err := io.ReadAll(r.Body)
		w.Header().Set("Asked", fmt.Sprintf("%s %s %d %v", r.Method, r.RequestURI, len(b), err))
		for piece := range bytes.SplitSeq(b, []byte("\n")) {
			_, _ = w.Write(piece)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Sum", fmt.Sprint(len(b)))
	}))
	t.Cleanup(cell.Close) // after the parts, which are parallel
	for _, engine := range []string{"std", "h1", "loop"} {
		for _, most := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s, %d", engine, most), func(t *testing.T) {
				t.Parallel()
				env, s := loaded(t, slicer(t, cell.Listener.Addr().String(), most), "ROUTER_ENGINE="+engine)
				p := launch(t, env)
				p.awaitLog("router serves")
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(p.logged())
					}
				})
				tr := &http.Transport{MaxConnsPerHost: 1}
				defer tr.CloseIdleConnections()
				client := &http.Client{Transport: tr, Timeout: time.Minute}
				sliced := slicer(t, s.ListenAddr, most)
				for n, body := range []string{"", "short", strings.Repeat("0123456789abcdef\n", 700), "", "a\nb\nc"} {
					for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodHead} {
						var in io.Reader = strings.NewReader(body)
						if n%2 == 0 {
							in = struct{ io.Reader }{in} // chunked
						}
						req, err := http.NewRequestWithContext(t.Context(), method, sliced+"/t/acme/x?n="+fmt.Sprint(n), in)
						if err != nil {
							t.Fatal(err)
						}
						resp, err := client.Do(req)
						if err != nil {
							t.Fatalf("%s, body %d: %v", method, n, err)
						}
						got, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						want, sum := strings.ReplaceAll(body, "\n", ""), fmt.Sprint(len(body))
						if method == http.MethodHead {
							want, sum = "", ""
						}
						asked := fmt.Sprintf("%s /t/acme/x?n=%d %d <nil>", method, n, len(body))
						if err != nil || string(got) != want || resp.Header.Get("Asked") != asked || resp.Trailer.Get("Sum") != sum {
							t.Errorf("%s, body %d: got %d %q, %d bytes (%v), trailer %q; want %q, %d bytes, %q",
								method, n, resp.StatusCode, resp.Header.Get("Asked"), len(got), err, resp.Trailer.Get("Sum"), asked, len(want), sum)
						}
					}
				}
			})
		}
	}
}

// slicer is a way to addr on which segments have at most so many bytes.
func slicer(t *testing.T, addr string, most int) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				_ = in.Close()
				continue
			}
			wg.Go(func() { slice(out, in, most) })
			wg.Go(func() { slice(in, out, most) })
		}
	})
	return "http://" + ln.Addr().String()
}

// slice copies until one side ends, and then ends both.
func slice(to, from net.Conn, most int) {
	defer func() { _, _ = to.Close(), from.Close() }()
	random := rand.New(rand.NewPCG(1, uint64(most))) //nolint:gosec // sizes of segments
	for buf := make([]byte, most); ; {
		n, err := from.Read(buf[:1+random.IntN(most)])
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
