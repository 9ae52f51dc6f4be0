package front

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A reader is a client that speaks HTTP/2 frame by frame, and reads the answers.
type reader struct {
	*http2.Framer
	t      *testing.T
	block  bytes.Buffer
	encode *hpack.Encoder
	stream uint32
}

func (s *site) reads(t *testing.T) *reader {
	t.Helper()
	nc := tls.Client(s.from(t, "127.0.0.1"), s.config())
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	_, err := io.WriteString(nc, http2.ClientPreface)
	r := &reader{Framer: http2.NewFramer(nc, nc), t: t, stream: 1}
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encode = hpack.NewEncoder(&r.block)
	if err == nil {
		err = r.WriteSettings()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// head is one of a request, to which rest is added. Nothing but more is kept in HPACK's table.
func (r *reader) head(method string, rest []byte, more ...hpack.HeaderField) []byte {
	r.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: method, Sensitive: true},
		{Name: ":scheme", Value: "https", Sensitive: true},
		{Name: ":authority", Value: "localhost", Sensitive: true},
		{Name: ":path", Value: "/", Sensitive: true},
	}, more...) {
		_ = r.encode.WriteField(f)
	}
	return append(r.block.Bytes(), rest...)
}

// ask sends a head in one frame and says the status of the answer.
func (r *reader) ask(head []byte) (status string) {
	r.t.Helper()
	id := r.stream
	r.stream += 2
	err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true})
	for err == nil {
		var f http2.Frame
		f, err = r.ReadFrame()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status = f.PseudoValue("status"); f.StreamEnded() {
				return status
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return status
			}
		}
	}
	r.t.Fatalf("stream %d: %v", id, err)
	return ""
}

// A field that fills HPACK's table, and a reference to it: a byte for four kilobytes.
var (
	filling = hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)}
	toIt    = []byte{0x80 | 62}
	static  = []byte{0x80 | 16} // accept-encoding: gzip, deflate
)

// TestHeadsThatDecodeToFarMore than they are on the wire, as HPACK lets them, are refused before
// anybody sees them, cost no more than what is taken of a head, and leave the connection to
// others' requests (X20). It is not parallel: it measures memory.
func TestHeadsThatDecodeToFarMore(t *testing.T) {
	const times, fields, most = 100, 10_000, 512 << 10
	var bombs atomic.Int32
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			bombs.Add(1)
		}
	}))
	for name, head := range map[string]func(r *reader) []byte{
		"40 MB by references": func(r *reader) []byte { return r.head("POST", bytes.Repeat(toIt, fields), filling) },
		"10,000 fields":       func(r *reader) []byte { return r.head("POST", bytes.Repeat(static, fields)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := s.reads(t)
			if status := r.ask(r.head("GET", nil)); status != "200" {
				t.Fatalf("got %s", status)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range times {
				if status := r.ask(head(r)); status != "431" {
					t.Fatalf("got %s, want 431", status)
				}
			}
			runtime.ReadMemStats(&after)
			if each := (after.TotalAlloc - before.TotalAlloc) / times; each > most {
				t.Errorf("a head takes %d bytes of memory, want %d at most", each, most)
			}
			if status := r.ask(r.head("GET", nil)); status != "200" {
				t.Errorf("afterwards: got %s", status)
			}
		})
	}
	t.Run("40 MB in each of several frames", func(t *testing.T) {
		a, r := s.attack(t), &reader{}
		r.encode = hpack.NewEncoder(&r.block)
		head := r.head("POST", bytes.Repeat(toIt, fields), filling)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
		for n := 0; n < maxContinuations && err == nil; n++ { // the last ones may find it closed
			err = a.WriteContinuation(1, n == maxContinuations-1, bytes.Repeat(toIt, fields))
		}
		if err := <-a.closed; err != nil {
			t.Errorf("still open: %v", err)
		}
		runtime.ReadMemStats(&after)
		if all := after.TotalAlloc - before.TotalAlloc; all > 32*most {
			t.Errorf("it took %d bytes of memory", all)
		}
	})
	if n := bombs.Load(); n > 0 {
		t.Errorf("the handler has seen %d of them", n)
	}
}
