package router_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/front"
)

// TestNobodySpeaksForAnotherOverHTTP2 is TestNobodySpeaksForAnother for what comes in
// frames: over TLS, where a host that the certificate does not cover goes no further
// than that, and at the listener without, where it does.
func TestNobodySpeaksForAnotherOverHTTP2(t *testing.T) {
	t.Parallel()
	if engine == "h1" {
		t.Skip("what serves HTTP/1.1 beside it makes no difference, what forwards does, and the loops' is the same")
	}
	type dialer func() (net.Conn, error)
	for name, begin := range map[string]func(*testing.T, map[directory.CellID]http.Handler) (*world, dialer){
		"over TLS": func(t *testing.T, cells map[directory.CellID]http.Handler) (*world, dialer) {
			s := newSecure(t, cells)
			return s.world, func() (net.Conn, error) { return tls.Dial("tcp", s.addr, s.clientConfig(base, "h2")) }
		},
		"without TLS": func(t *testing.T, cells map[directory.CellID]http.Handler) (*world, dialer) {
			w := newWorld(t, cells, nil)
			w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
			return w, func() (net.Conn, error) { return net.Dial("tcp", w.addr) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cell := &victim{}
			w, dial := begin(t, map[directory.CellID]http.Handler{"c1": cell, "c2": unreached(t)})
			d, c := cell.spoofed(w), &framer{tb: t, dial: dial}
			defer c.close()
			attack(t, cell, 3_000, func(n int) framed { return framedSpoofs[n%len(framedSpoofs)](d) }, c.send)
		})
	}
}

// A framer sends requests over HTTP/2, on one connection as long as it lasts.
type framer struct {
	tb     testing.TB
	dial   func() (net.Conn, error)
	conn   net.Conn // nil: the next request opens one
	frames *http2.Framer
	stream uint32 // of the next request
}

// lastStream of a connection comes before its answers fill the window that nobody enlarges,
// and before its refusals are a flood.
const lastStream = 127

func (c *framer) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *framer) open() {
	c.tb.Helper()
	c.close()
	nc, err := c.dial()
	if err != nil {
		c.tb.Fatal(err)
	}
	c.conn, c.stream = nc, 1
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if c.frames, err = begun(nc); err != nil {
		c.tb.Fatal(err)
	}
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
}

// send is the status of the answer to v, 0 where its stream was ended instead. What comes
// behind a head that is refused already may end the connection.
func (c *framer) send(v framed) (status int) {
	c.tb.Helper()
	if c.conn == nil || c.stream > lastStream {
		c.open()
	}
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	stream, whole := c.stream, v.body == "" && v.trailer == nil
	c.stream += 2
	err := c.write(stream, v, whole)
	if err == nil {
		status, err = c.answer(stream)
	}
	if err != nil && (whole || errors.Is(err, os.ErrDeadlineExceeded)) {
		c.tb.Fatalf("no answer to %q: %v", v, err)
	}
	if err != nil || !whole && status != http.StatusOK {
		c.close()
	}
	return status
}

func (c *framer) write(stream uint32, v framed, whole bool) error {
	err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head(v.head...), EndHeaders: true, EndStream: whole})
	if err == nil && v.body != "" {
		err = c.frames.WriteData(stream, v.trailer == nil, []byte(v.body))
	}
	if err == nil && v.trailer != nil {
		err = c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head(v.trailer...), EndHeaders: true, EndStream: true})
	}
	return err
}

// answer reads the answer on a stream to its end.
func (c *framer) answer(stream uint32) (status int, err error) {
	for ended := false; !ended; {
		got, err := c.frames.ReadFrame()
		if err != nil {
			return status, err
		}
		if away, ok := got.(*http2.GoAwayFrame); ok {
			return status, fmt.Errorf("the server says goodbye: %v", away.ErrCode)
		}
		if got.Header().StreamID != stream {
			continue
		}
		switch f := got.(type) {
		case *http2.MetaHeadersFrame:
			if s := f.PseudoValue("status"); s != "" {
				if status, err = strconv.Atoi(s); err != nil {
					return 0, err
				}
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			ended = true
		}
	}
	return status, nil
}
