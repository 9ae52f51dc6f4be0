package h1

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// counting notes how often its connections are written to.
type counting struct {
	net.Listener
	writes atomic.Int32
}

// Accept implements net.Listener.
func (l *counting) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &countedWrites{nc, l}, err
}

type countedWrites struct {
	net.Conn
	ln *counting
}

// Write implements net.Conn.
func (c *countedWrites) Write(p []byte) (int, error) {
	c.ln.writes.Add(1)
	return c.Conn.Write(p)
}

// TestPartsGoTogether: what comes together goes on together, as much as the
// connection's buffer takes, and is whole, whatever the sizes are.
func TestPartsGoTogether(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		parts []int
		most  int32
	}{
		{[]int{1000, 2000, 4000, 8000}, 1},
		{[]int{4096, 4096, 4096, 4096}, 2},
		{[]int{5, outBytes, 5}, 3},
		{[]int{outBytes - framing}, 2},
		{[]int{outBytes - framing, 1}, 3},
		{[]int{outBytes - 1, 1, outBytes + 1}, 5},
		{[]int{100 << 10}, 3},
	} {
		s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i, n := range tt.parts {
				_, _ = w.Write([]byte(strings.Repeat(string(rune('a'+i)), n)))
			}
		})}
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln := &counting{Listener: inner}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		w := dial(t, ln.Addr().String())
		w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		_, body, _, err := w.answer(http.MethodGet)
		var want strings.Builder
		for i, n := range tt.parts {
			want.WriteString(strings.Repeat(string(rune('a'+i)), n))
		}
		if err != nil || body != want.String() {
			t.Errorf("%v: got %d bytes, %v", tt.parts, len(body), err)
		}
		if n := ln.writes.Load(); n > tt.most {
			t.Errorf("%v: got %d writes, want at most %d", tt.parts, n, tt.most)
		}
		_ = s.Close()
		<-served
	}
}

// TestSmallChunksAreReadTogether: a body that comes in chunks of one byte is read as it was
// received, and not a byte at a time: each piece costs a write to the cell.
func TestSmallChunksAreReadTogether(t *testing.T) {
	t.Parallel()
	const size = 2000
	in := "POST /handler HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", size) + "0\r\n\r\n"
	eachDriver(t, func(t *testing.T, loops int) {
		s := &Server{Loops: loops, Direct: &directly{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			total, pieces, buf := 0, 0, make([]byte, 1000)
			for {
				n, err := r.Body.Read(buf)
				total, pieces = total+n, pieces+1
				if err != nil {
					break
				}
			}
			_, _ = fmt.Fprintf(w, "%d bytes, together %v", total, pieces < size/10)
		})}
		c := dial(t, serve(t, s))
		for range 2 { // the second follows where the first one ended
			c.send(in)
			if _, body, _, err := c.answer(http.MethodPost); err != nil || body != fmt.Sprintf("%d bytes, together true", size) {
				t.Errorf("got %q, %v", body, err)
			}
		}
	})
}
