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

// TestRequestsThatDoNotArriveCostLittle: sign-ups whose bodies never come, over 40
// connections of one address, 128 on each. It is not parallel: it measures memory.
func TestRequestsThatDoNotArriveCostLittle(t *testing.T) {
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": named("c1"), "c2": named("c2")})
	const conns, streams, share = 40, 128, 1024
	framers := make([]*http2.Framer, conns)
	var open []net.Conn
	for i := range framers {
		nc, err := tls.Dial("tcp", s.addr, s.clientConfig(base, "h2"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		framers[i] = http2.NewFramer(nc, nc)
		if err := framers[i].WriteSettings(); err != nil {
			t.Fatal(err)
		}
		for f, err := framers[i].ReadFrame(); ; f, err = framers[i].ReadFrame() { // the server has made all of its connection
			if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
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
		for _, nc := range open {
			_ = nc.Close()
		}
		readers.Wait()
	})
	var refused atomic.Int32
	all := make(chan struct{})
	for _, f := range framers {
		var heads bytes.Buffer
		enc := hpack.NewEncoder(&heads)
		for n := range streams {
			heads.Reset()
			for _, h := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: base}, {Name: ":path", Value: "/signup"}, {Name: "content-length", Value: "65536"}} {
				_ = enc.WriteField(h)
			}
			sent += heads.Len() + 9
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(1 + 2*n), BlockFragment: heads.Bytes(), EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
		}
		readers.Go(func() { // ends with the connection
			for {
				f, err := f.ReadFrame()
				if err != nil {
					return
				}
				if h, ok := f.(*http2.HeadersFrame); ok && h.HeadersEnded() && refused.Add(1) == conns*streams-share {
					close(all)
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
	if each > 1<<20 {
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
