package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func (s *site) floods(kind string) float64 {
	return testutil.ToFloat64(s.server.o.Metrics.floods.WithLabelValues(kind))
}

// TestRefusedUploadsAreNoFlood: that a body is not read to its end takes a stream back
// on both sides, and is nobody's fault.
func TestRefusedUploadsAreNoFlood(t *testing.T) {
	t.Parallel()
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	tr := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: time.Minute}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 200 {
				resp, err := c.Post("https://"+s.addr+"/", "text/plain", bytes.NewReader(make([]byte, 200<<10)))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	clients.Wait()
	if n := s.floods(floodResets); n != 0 {
		t.Errorf("%v connections closed", n)
	}
}

// TestAnAnsweredStreamIsNotTakenBack: resets of it cost nothing, on both sides, but its
// number is good for one; what comes late is either large or a frame that carries nothing.
func TestAnAnsweredStreamIsNotTakenBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, http.NotFoundHandler())
	nobody, _ := net.Pipe()
	var g *guarded
	ended := func(stream uint32) string {
		return g.written(frame{kind: frameHeaders, flags: flagEndStream, stream: stream})
	}
	back := func(stream uint32) string { return g.received(frame{kind: frameReset, stream: stream}) }
	ours := func(stream uint32) string { return g.written(frame{kind: frameReset, stream: stream}) }
	cut := func(stream uint32) string {
		return g.written(frame{kind: frameReset, stream: stream, code: codeInternal})
	}
	for name, tt := range map[string]struct {
		turn func(stream uint32) string
		want string
	}{
		"refused, and the client leaves":      {func(n uint32) string { return ended(n) + ours(n) + ours(n) + back(n) }, ""},
		"late pieces":                         {func(n uint32) string { return ended(n) + g.received(frame{data: lateBytes, stream: n}) + ours(n) }, ""},
		"late crumbs":                         {func(n uint32) string { return ended(n) + g.received(frame{data: 1, stream: n}) + ours(n) }, floodIdle},
		"crumbs of a body":                    {func(n uint32) string { return g.received(frame{data: 1, stream: n}) }, ""},
		"left again and again":                {func(n uint32) string { return ended(1) + back(1) }, floodIdle},
		"left before it was answered":         {back, floodResets},
		"taken back by us before its answer":  {ours, floodResets},
		"cut by its cell":                     {cut, ""},
		"cut, and the client leaves":          {func(n uint32) string { return cut(n) + back(n) + ours(n) }, ""},
		"another was answered":                {func(n uint32) string { return ended(n+1) + back(n) }, floodResets},
		"a head that does not end its stream": {func(n uint32) string { return g.written(frame{kind: frameHeaders, stream: n}) + back(n) }, floodResets},
		"answered long ago":                   {func(n uint32) string { return ended(n+2*uint32(len(g.ended.recent))) + ours(n) }, floodResets},
	} {
		g = s.server.guard(nobody, &tls.ConnectionState{})
		got := ""
		for stream := uint32(1); stream < 20000 && got == ""; stream += 2 {
			got = tt.turn(stream)
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestAnswersThatACellCutsAreNoFlood: the connection, and what else is under way on it, stays.
func TestAnswersThatACellCutsAreNoFlood(t *testing.T) {
	t.Parallel()
	from := map[string]bool{}
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from[r.RemoteAddr] = true
		if r.Method == http.MethodPut {
			_, _ = w.Write(make([]byte, 10000))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	tr := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: time.Minute}
	for range 2 * (resets + maxStreams) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+s.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Fatal("an answer that was cut looks whole")
		}
		resp.Body.Close()
	}
	if err := s.get(c); err != nil {
		t.Errorf("another request: %v", err)
	}
	if n := s.floods(floodResets); n != 0 || len(from) != 1 {
		t.Errorf("%v connections closed, %d were used", n, len(from))
	}
}

// TestAClientBehindAHopCutsNobody: over a connection of a hop, or where TLS ends before
// us, one client takes back any number of its requests, and another is served.
func TestAClientBehindAHopCutsNobody(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"hop": func(o *Options) { o.Hop = func(net.Addr) bool { return true } },
		"h2c": func(o *Options) { o.TLS, o.Engine = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began, ended, from := make(chan struct{}), make(chan struct{}), map[string]bool{}
			s := newSiteOf(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				from[r.RemoteAddr] = true
				if r.Method == http.MethodPost {
					began <- struct{}{}
					<-r.Context().Done()
					ended <- struct{}{}
				}
			}), time.Minute, change)
			tr, at := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true}, "https://"+s.addr
			if name == "h2c" {
				tr, at = &http.Transport{Protocols: &http.Protocols{}}, "http://"+s.addr
				tr.Protocols.SetUnencryptedHTTP2(true)
			}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: time.Minute}
			for range 2 * (resets + maxStreams) {
				ctx, cancel := context.WithCancel(t.Context())
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, nil)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					<-began
					cancel()
				}()
				if _, err := c.Do(r); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				<-ended
			}
			resp, err := c.Get(at)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if len(from) != 1 {
				t.Errorf("over %d connections, want 1", len(from))
			}
		})
	}
}
