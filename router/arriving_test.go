package router_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// framers are connections of one address that speak HTTP/2 frame by frame, and that the server
// has made all of.
func (s *secure) framers(t *testing.T, n int, settings ...http2.Setting) (all []*http2.Framer, end func()) {
	t.Helper()
	var open []net.Conn
	for range n {
		nc, err := tls.Dial("tcp", s.addr, s.clientConfig(base, "h2"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		f, err := begun(nc, settings...)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all, func() {
		for _, nc := range open {
			_ = nc.Close()
		}
	}
}

// begun is a connection that speaks HTTP/2 frame by frame, once the server has made all of it.
func begun(nc net.Conn, settings ...http2.Setting) (*http2.Framer, error) {
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		return nil, err
	}
	f := http2.NewFramer(nc, nc)
	if err := f.WriteSettings(settings...); err != nil {
		return nil, err
	}
	for {
		got, err := f.ReadFrame()
		if err != nil {
			return nil, err
		}
		if s, ok := got.(*http2.SettingsFrame); ok && s.IsAck() {
			return f, nil
		}
	}
}

// head is a request's, without its end.
func head(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// TestLateRefusalsThatNobodyTakes: that a cell is not there is said when the request has
// arrived. Whose window stays shut is counted again from then on.
func TestLateRefusalsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	s := newSecure(t, nil) // acme's cell has no address that anybody listens at
	s.apply(directory.Update{Since: s.table.View().Version(), Version: s.table.View().Version() + 1, Cells: []directory.CellRoute{{ID: "c1", Address: "https://127.0.0.1:1", State: directory.Ready}}})
	const conns, streams, share = 9, 128, 1024
	framers, end := s.framers(t, conns, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	t.Cleanup(end)
	for _, f := range framers {
		for n := range streams {
			h := head(":method", "GET", ":scheme", "https", ":authority", acme, ":path", "/")
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(1 + 2*n), BlockFragment: h, EndHeaders: true, EndStream: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "those over the share have a second", func() bool {
		return s.counted(t, "router_http2_crowded_total", "hurried") == conns*streams-share
	})
}

// counted is what a counter has under a label's value.
func (w *world) counted(t *testing.T, name, value string) float64 {
	t.Helper()
	all, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == value {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestRequestsThatDoNotArriveCostLittle: sign-ups whose bodies never come, over 40
// connections of one address, 128 on each. It is not parallel: it measures memory.
func TestRequestsThatDoNotArriveCostLittle(t *testing.T) {
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": named("c1"), "c2": named("c2")})
	const conns, streams, share = 40, 128, 1024
	framers, end := s.framers(t, conns)
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what is kept for the next to come goes with the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // far from the end
	}
	before, sent := held(), 0
	var readers sync.WaitGroup
	t.Cleanup(func() {
		end()
		readers.Wait()
	})
	var refused atomic.Int32
	all := make(chan struct{})
	for _, f := range framers {
		for n := range streams {
			h := head(":method", "POST", ":scheme", "https", ":authority", base, ":path", "/signup", "content-length", "65536")
			sent += len(h) + 9
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(1 + 2*n), BlockFragment: h, EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
		}
		readers.Go(func() { // ends with the connection
			ended := map[uint32]bool{}
			for {
				f, err := f.ReadFrame()
				if err != nil {
					return
				}
				switch id := f.Header().StreamID; f.(type) {
				case *http2.HeadersFrame, *http2.RSTStreamFrame: // an answer, or the end of who was cut and had no time for one
					if !ended[id] && refused.Add(1) == conns*streams-share {
						close(all)
					}
					ended[id] = true
				}
			}
		})
	}
	select {
	case <-all:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d are refused, want %d", refused.Load(), conns*streams-share)
	}
	each := (held() - before) / conns
	t.Logf("%d bytes of frames a connection hold %d bytes", sent/conns, each)
	if each > 3<<19 { // with answers that were read, and the lines of a log; all of them at once are several times as much
		t.Errorf("a connection holds %d bytes", each)
	}
	if got := s.ask(t, s.over(t, acme, false), "GET", acme, "/", nil); got.StatusCode != http.StatusOK {
		t.Errorf("another client: got %d", got.StatusCode)
	}
}

// A deadlined is an answer that knows the deadlines of the request.
type deadlined struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlined) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestASignupHasItsOwnTime: its body is not waited for as long as an exchange may take.
func TestASignupHasItsOwnTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), func(o *router.Options, _ *pool.Limits) { o.Directory = parseURL(t, "http://127.0.0.1:1") })
	d := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("POST", "http://"+base+"/signup", bytes.NewReader([]byte("{}")))
	latest := time.Now().Add(10 * time.Second)
	w.router.Handler().ServeHTTP(d, r)
	if len(d.set) != 2 || d.set[0].IsZero() || d.set[0].After(latest.Add(5*time.Second)) || !d.set[1].IsZero() {
		t.Errorf("it is read until %v, want about %v, and then no end", d.set, latest)
	}
}
