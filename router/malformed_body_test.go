package router_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
)

const malformedTotal = "router_malformed_total"

// TestABodyThatIsNotHTTPGetsAWholeProblem: as a head does, and is counted as one, also where
// its cell has got some of it. Of net/http that holds where it says what is wrong, and where
// it does not take what is.
func TestABodyThatIsNotHTTPGetsAWholeProblem(t *testing.T) {
	t.Parallel()
	const (
		post    = "POST /v1/x?secret=1 HTTP/1.1\r\nHost: " + acme + "\r\n"
		sized   = post + "Content-Length: 100\r\n\r\n"
		chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	)
	sent := chunked + "10000\r\n" + strings.Repeat("x", kept) + "\r\n" // all that is kept: the rest is read while it is sent
	end := func(c *net.TCPConn) { _ = c.CloseWrite() }
	for _, on := range engines {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, on, twoCells(), nil)
			for _, tt := range []struct {
				in, reason, std string // std is the reason by net/http; "": it takes that, or takes the client for gone
				code            problem.Kind
				then            []func(*net.TCPConn)
			}{
				{chunked + "zz\r\n", "bad_chunk", "bad_chunk", problem.Invalid, nil},
				{chunked + "5\nhello", "bad_chunk", "bad_chunk", problem.Invalid, nil},
				{chunked + "5\r\nhello5\r\n", "bad_chunk", "bad_chunk", problem.Invalid, nil},
				{chunked + "5;" + strings.Repeat("x", 5000) + "\r\n", "chunk_too_long", "chunk_too_long", problem.Invalid, nil},
				{chunked + strings.Repeat("f", 20) + "\r\n", "chunk_too_long", "chunk_too_long", problem.Invalid, nil},
				{chunked + "2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n", "bad_trailer", "", problem.Invalid, nil},
				{chunked + "0\r\nX : y\r\n\r\n", "bad_name", "", problem.Invalid, nil},
				{chunked + "0\r\nX y\r\n\r\n", "bad_field", "bad_trailer", problem.Invalid, nil},
				{chunked + "0\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\n", "trailer_too_large", "trailer_too_large", problem.HeadTooLarge, nil},
				{chunked + "0\r\n" + strings.Repeat("X: y\r\n", 101) + "\r\n", "too_many_fields", "", problem.HeadTooLarge, nil},
				{chunked + "5\r\nhe", "cut_short", "cut_short", problem.Invalid, []func(*net.TCPConn){end}},
				{sized + "he", "cut_short", "cut_short", problem.Invalid, []func(*net.TCPConn){end}},
				{sent + "zz\r\n", "bad_chunk", "bad_chunk", problem.Invalid, nil},
				{sent + "0\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\n", "trailer_too_large", "trailer_too_large", problem.HeadTooLarge, nil},
				{sent + "5\r\nhe", "cut_short", "", problem.Invalid, []func(*net.TCPConn){end}},
			} {
				reason := tt.reason
				if on == "std" {
					reason = tt.std
				}
				if reason == "" {
					if a := w.first(tt.in, tt.then...); a.StatusCode != 200 && a.StatusCode != 499 {
						t.Errorf("%s: net/http says what is wrong by now: %d %s", tt.reason, a.StatusCode, a.body)
					}
					continue
				}
				before := w.counted(t, malformedTotal, reason)
				checkMalformed(t, w.first(tt.in, tt.then...), reason, "/v1/x", tt.code)
				if n := w.counted(t, malformedTotal, reason) - before; n != 1 {
					t.Errorf("%s: counted %v times", reason, n)
				}
				if a := w.do("POST", acme, "/next", "y"); a.StatusCode != 200 || !strings.HasSuffix(a.body, " /next y") {
					t.Errorf("after %s: got %d %s", reason, a.StatusCode, a.body)
				}
			}
		})
	}
}

// TestABodyThatEndsTooEarlyOverHTTP2: of a stream that the client has ended, and not taken back.
func TestABodyThatEndsTooEarlyOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, "h1", twoCells(), nil)
	w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
	for n, size := range []int{3, kept + 3} {
		checkMalformed(t, w.cutOff(t, size, false), "cut_short", "/v1/x", problem.Invalid)
		if got := w.counted(t, malformedTotal, "cut_short"); got != float64(n+1) {
			t.Errorf("counted %v times, want %d", got, n+1)
		}
	}
	w.cutOff(t, 3, true)
	eventually(t, "the log tells of three", func() bool { return strings.Count(w.log.String(), `"path":"/v1/x"`) == 3 })
	if got := w.counted(t, malformedTotal, "cut_short"); got != 2 {
		t.Errorf("who has left is counted as malformed: %v", got)
	}
}

// cutOff sends size bytes of a longer body, and says that it was all, or takes the stream back.
func (w *world) cutOff(t *testing.T, size int, back bool) (a answer) {
	t.Helper()
	nc, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(nc, http2.ClientPreface)
	f := http2.NewFramer(nc, nc)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err == nil {
		err = f.WriteSettings()
	}
	if err == nil {
		h := head(":method", "POST", ":scheme", "http", ":authority", acme, ":path", "/v1/x?secret=1", "content-length", "100000")
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h, EndHeaders: true})
	}
	for size > 0 && err == nil {
		n := min(size, 16<<10)
		err = f.WriteData(1, false, make([]byte, n))
		size -= n
	}
	switch {
	case err != nil:
	case back:
		err = errors.Join(f.WriteRSTStream(1, http2.ErrCodeCancel), f.WritePing(false, [8]byte{1}))
	default:
		err = f.WriteData(1, true, nil)
	}
	for err == nil {
		var got http2.Frame
		got, err = f.ReadFrame()
		switch got := got.(type) {
		case *http2.MetaHeadersFrame:
			a.Response = &http.Response{Header: http.Header{}}
			for _, h := range got.Fields {
				a.Header.Add(h.Name, h.Value)
			}
			a.StatusCode, err = strconv.Atoi(got.PseudoValue("status"))
		case *http2.DataFrame:
			if a.body += string(got.Data()); got.StreamEnded() {
				return a
			}
		case *http2.PingFrame:
			if got.IsAck() { // the server knows that the stream is gone
				return a
			}
		}
	}
	t.Fatal(err)
	return a
}

// TestAClientThatLeavesIsNotMalformed: of whose body only a part has come when its connection
// breaks, whether its cell has got that or not.
func TestAClientThatLeavesIsNotMalformed(t *testing.T) {
	t.Parallel()
	for _, on := range engines {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, on, twoCells(), nil)
			for _, size := range []int{3, kept + 3} {
				nc, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
				if err != nil {
					t.Fatal(err)
				}
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
				const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
				_, err = io.WriteString(nc, "POST /gone HTTP/1.1\r\nHost: "+acme+"\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
				if err == nil {
					_, err = io.ReadFull(nc, make([]byte, len(goOn))) // from then on the body is read
				}
				if err == nil {
					_, err = io.WriteString(nc, strings.Repeat("x", size))
				}
				if err = errors.Join(err, nc.(*net.TCPConn).SetLinger(0), nc.Close()); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the log tells of both", func() bool { return strings.Count(w.log.String(), `"path":"/gone"`) == 2 })
			if got := w.counted(t, malformedTotal, "cut_short"); got != 0 {
				t.Errorf("counted %v times", got)
			}
		})
	}
}
