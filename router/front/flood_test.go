package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/infra/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A site is a Server on a real listener.
type site struct {
	addr   string
	roots  *x509.CertPool
	reg    *prometheus.Registry
	server *Server
}

func newSite(t *testing.T, h http.Handler) *site {
	t.Helper()
	return newSiteOf(t, h, time.Minute)
}

// newSiteOf is newSite with whole for an exchange, and other options.
func newSiteOf(t *testing.T, h http.Handler, whole time.Duration, change ...func(*Options)) *site {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	hosts := t.TempDir()
	if err := ca.Issue(hosts, certs.Request{Hosts: []string{"localhost"}}); err != nil {
		t.Fatal(err)
	}
	shown, err := certs.OpenHosts(hosts, certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{roots: x509.NewCertPool(), reg: prometheus.NewRegistry()}
	s.roots.AppendCertsFromPEM(ca.Authority())
	o := Options{
		TLS: shown.Config(), Engine: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}, Handler: h, Whole: whole, Idle: time.Minute, MaxHead: 32 << 10,
		Metrics: NewMetrics(s.reg), Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	s.server = New(o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func (s *site) config() *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: "localhost", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
}

// An attacker speaks HTTP/2 frame by frame, and reads all that comes.
type attacker struct {
	*http2.Framer
	nc     net.Conn
	heads  bytes.Buffer
	encode *hpack.Encoder
	stream uint32
	closed chan error // the end of the connection: nil where the server has closed it
}

func (s *site) attack(t *testing.T) *attacker {
	t.Helper()
	return s.attackFrom(t, "127.0.0.1")
}

// attackFrom is attack from an address of this machine's own.
func (s *site) attackFrom(t *testing.T, ip string) *attacker {
	t.Helper()
	nc := tls.Client(s.from(t, ip), s.config())
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	a := &attacker{Framer: http2.NewFramer(nc, nc), nc: nc, stream: 1, closed: make(chan error, 1)}
	a.AllowIllegalWrites = true
	a.encode = hpack.NewEncoder(&a.heads)
	if err := a.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the connection
		_, err := io.Copy(io.Discard, nc)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		a.closed <- err
	}()
	return a
}

// open sends the head of a request, and says on which stream.
func (a *attacker) open(end bool, more ...hpack.HeaderField) (uint32, error) {
	a.heads.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "localhost"}, {Name: ":path", Value: "/"},
	}, more...) {
		_ = a.encode.WriteField(f)
	}
	id := a.stream
	a.stream += 2
	return id, a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.heads.Bytes(), EndStream: end, EndHeaders: true})
}

// TestFloods: each kind closes its connection within a bounded number of frames,
// and meanwhile another client is served (X18).
func TestFloods(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		most int    // turns until the connection is closed
		kind string // of the flood as counted; "" where net/http closes by itself
		turn func(a *attacker) error
	}{
		"rapid reset": {4000, floodResets, func(a *attacker) error {
			id, err := a.open(true)
			return errors.Join(err, a.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
		"made you reset, by a window of nothing": {4000, "", func(a *attacker) error {
			id, err := a.open(false)
			return errors.Join(err, a.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)))
		}},
		"made you reset, by a window too large": {4000, "", func(a *attacker) error {
			id, err := a.open(false)
			return errors.Join(err, a.WriteWindowUpdate(id, 1<<31-1))
		}},
		"pings":           {50000, floodIdle, func(a *attacker) error { return a.WritePing(false, [8]byte{}) }},
		"answers to none": {50000, floodIdle, func(a *attacker) error { return a.WritePing(true, [8]byte{}) }},
		"settings":        {50000, floodIdle, func(a *attacker) error { return a.WriteSettings() }},
		"priorities": {50000, floodIdle, func(a *attacker) error {
			return a.WriteRawFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 3, 1})
		}},
		"frames nobody knows": {50000, floodIdle, func(a *attacker) error { return a.WriteRawFrame(0x77, 0, 0, nil) }},
		"windows":             {50000, floodWindows, func(a *attacker) error { return a.WriteWindowUpdate(0, 1) }},
		"empty data": {50000, floodIdle, func(a *attacker) error {
			if a.stream == 1 {
				if _, err := a.open(false); err != nil {
					return err
				}
			}
			return a.WriteData(1, false, nil)
		}},
		"data that is padding": {50000, floodIdle, func(a *attacker) error {
			if a.stream == 1 {
				if _, err := a.open(false); err != nil {
					return err
				}
			}
			return a.WriteDataPadded(1, false, nil, []byte{0})
		}},
		"continuations": {20000, floodContinuations, func(a *attacker) error {
			if a.stream == 1 {
				a.stream = 3
				a.heads.Reset()
				_ = a.encode.WriteField(hpack.HeaderField{Name: ":method", Value: "GET"})
				return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.heads.Bytes()})
			}
			return a.WriteContinuation(1, false, nil)
		}},
		"a head that never ends": {20000, "", func(a *attacker) error {
			a.heads.Reset()
			_ = a.encode.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 16<<10), Sensitive: true})
			if a.stream == 1 {
				a.stream = 3
				return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.heads.Bytes()[:16<<10]})
			}
			return a.WriteContinuation(1, false, a.heads.Bytes()[:1<<10])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					<-r.Context().Done()
				}
			}))
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
			defer tr.CloseIdleConnections()
			neighbour := &http.Client{Transport: tr, Timeout: time.Minute}
			a := s.attack(t)
			for turns := range tt.most {
				if tt.turn(a) != nil {
					break
				}
				if turns%1000 == 0 {
					get(t, neighbour, s.addr)
				}
			}
			if err := <-a.closed; err != nil { // the last turns may have been written before the server read the first
				t.Errorf("still open after %d turns: %v", tt.most, err)
			}
			get(t, neighbour, s.addr)
			if tt.kind != "" && testutil.ToFloat64(s.server.o.Metrics.floods.WithLabelValues(tt.kind)) != 1 {
				t.Errorf("not counted as %s", tt.kind)
			}
		})
	}
}

// TestAWindowThatStaysShut: who asks for answers and never lets one byte of them
// through holds as many as a connection may have streams, and those not for long (X18).
func TestAWindowThatStaysShut(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int32
	ended := make(chan error)
	s := newSiteOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		for n := running.Add(1); ; {
			if was := most.Load(); n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		_, err := w.Write(make([]byte, 1<<20))
		running.Add(-1)
		ended <- err
	}), time.Second)
	a := s.attack(t)
	if err := a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	for range maxStreams + 32 {
		if _, err := a.open(true); err != nil {
			t.Fatal(err)
		}
	}
	tr := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	get(t, &http.Client{Transport: tr, Timeout: time.Minute}, s.addr)
	for range maxStreams {
		if err := <-ended; err == nil {
			t.Error("an answer went through a window of nothing")
		}
	}
	if got := most.Load(); got > maxStreams {
		t.Errorf("%d handlers of one connection at once, want at most %d", got, maxStreams)
	}
}

func get(t *testing.T, c *http.Client, addr string) {
	t.Helper()
	resp, err := c.Get("https://" + addr + "/")
	if err != nil {
		t.Fatalf("the neighbour: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the neighbour: %d", resp.StatusCode)
	}
}

// TestFramesAreFoundInAnyPieces: a head may be split anywhere.
func TestFramesAreFoundInAnyPieces(t *testing.T) {
	t.Parallel()
	var all []byte
	for _, f := range []struct {
		size             uint32
		kind, flags, pad byte
	}{{3, 0, 1, 0}, {0, 4, 0, 0}, {300, 1, 4, 0}, {5, 0, flagPadded, 4}, {9, 0, flagPadded, 2}, {0, 0, flagPadded, 0}, {5, 1, flagPadded, 4}, {8, 6, 1, 0}, {4, 3, 0, 0}, {2, 3, 0, 0}} {
		all = append(binary.BigEndian.AppendUint32(all, f.size<<8|uint32(f.kind)), f.flags, 0, 0, 1, byte(f.kind))
		payload := make([]byte, f.size)
		if f.size > 0 {
			payload[0] = f.pad
		}
		if f.kind == frameReset && f.size == 4 {
			payload[3] = 7
		}
		all = append(all, payload...)
	}
	want := []frame{{0, 1, 256, 3, 0}, {4, 0, 260, 0, 0}, {1, 4, 257, 300, 0}, {0, 8, 256, 0, 0}, {0, 8, 256, 6, 0}, {0, 8, 256, 0, 0}, {1, 8, 257, 5, 0}, {6, 1, 262, 8, 0}, {3, 0, 259, 4, 7}, {3, 0, 259, 2, 0}}
	for piece := 1; piece < len(all); piece++ {
		var s frames
		var got []frame
		for rest := all; len(rest) > 0; {
			n := min(piece, len(rest))
			s.each(rest[:n], func(f frame) string { got = append(got, f); return "" })
			rest = rest[n:]
		}
		if len(got) != len(want) {
			t.Fatalf("pieces of %d: got %v", piece, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("pieces of %d: got %v, want %v", piece, got, want)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	covering := func(host string) (string, bool) {
		name, ok := map[string]string{"a.wild": "wild", "b.wild": "wild", "own": "own", "": "default", "::1": "default"}[host]
		return name, ok
	}
	for _, tt := range []struct {
		name, host string
		want       bool
	}{
		{"a.wild", "a.wild", true},
		{"a.wild", "b.wild:443", true},
		{"a.wild", "own", false},
		{"own", "a.wild", false},
		{"own", "nobody", false},
		{"", "[::1]:8443", true},
		{"", "own", false},
	} {
		if got := Match(tt.name, tt.host, covering); got != tt.want {
			t.Errorf("%q for %q: got %v, want %v", tt.name, tt.host, got, tt.want)
		}
	}
}

// TestShutdownWaitsForBothProtocols: what is under way is answered, and a
// handshake that never comes to an end holds nothing up.
func TestShutdownWaitsForBothProtocols(t *testing.T) {
	t.Parallel()
	inside, answer := make(chan struct{}), make(chan struct{})
	s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-answer
	}))
	idle, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	got := make(chan error, 2)
	for _, h2 := range []bool{true, false} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: h2}
		defer tr.CloseIdleConnections()
		go func() {
			resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("https://" + s.addr)
			if err == nil {
				resp.Body.Close()
			}
			got <- err
		}()
		<-inside
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Shutdown(context.Background()) }()
	close(answer)
	for range 2 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
