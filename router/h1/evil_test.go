package h1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// evilCell answers a request to /evil with what evil writes, and others with
// their query.
func evilCell(tb testing.TB, evil func(c net.Conn)) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { evilServe(c, evil) })
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

func evilServe(c net.Conn, evil func(net.Conn)) {
	defer func() { _ = c.Close() }()
	from := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/evil" {
			evil(c)
			continue
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.RawQuery), r.URL.RawQuery)
	}
}

func write(s string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, s) } }

func writeAndClose(s string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, s)
		_ = c.Close()
	}
}

func writeAndReset(s string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, s)
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// forever writes s until nobody reads.
func forever(first, s string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, first)
		for piece := []byte(s); err == nil; { // which costs no memory each time
			_, err = c.Write(piece)
		}
	}
}

// drip writes s byte by byte, slowly, for ever.
func drip(first, s string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, first)
		for i := 0; err == nil; i++ {
			_, err = io.WriteString(c, s[i%len(s):i%len(s)+1])
			time.Sleep(5 * time.Millisecond) // what is slow is the matter of the test
		}
	}
}

const okHead = "HTTP/1.1 200 OK\r\n"

// TestEvilCells: whatever a cell answers, its client gets that answer, an error
// or a cut one, and nobody gets any of it with another answer.
func TestEvilCells(t *testing.T) {
	t.Parallel()
	foreign := okHead + "Content-Length: 7\r\n\r\nFOREIGN"
	cases := []struct {
		name   string
		evil   func(net.Conn)
		status int // 0: the client's connection ends before a head
		whole  bool
	}{
		{"two answers", write(okHead + "Content-Length: 2\r\n\r\nhi" + foreign), 200, true},
		{"bytes after the answer", write(okHead + "Content-Length: 2\r\n\r\nhi\r\n"), 200, true},
		{"bytes after the last chunk", write(okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + foreign), 200, true},
		{"a body with 204", write("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\nFOREIGN"), 204, true},
		{"an answer as the body of 204", write("HTTP/1.1 204 No Content\r\n\r\n" + foreign), 204, true},
		{"an answer as the body of 304", write("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n" + foreign), 304, true},
		{"length too large", writeAndClose(okHead + "Content-Length: 100\r\n\r\nhi"), 200, false},
		{"length too small", write(okHead + "Content-Length: 1\r\n\r\nhi"), 200, true},
		{"chunk size too large", writeAndClose(okHead + "Transfer-Encoding: chunked\r\n\r\nff\r\nhi\r\n0\r\n\r\n"), 200, false},
		{"chunk size too small", write(okHead + "Transfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n"), 200, false},
		{"no last chunk", writeAndClose(okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"), 200, false},
		{"reset in the head", writeAndReset("HTTP/1.1 200 OK\r\nX: "), 502, true},
		{"reset in the body", writeAndReset(okHead + "Content-Length: 100\r\n\r\nhi"), 200, false},
		{"reset in chunks", writeAndReset(okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"), 200, false},
		{"reset without a length", writeAndReset(okHead + "\r\nhi"), 200, false},
		{"nothing", writeAndClose(""), 502, true},
		{"garbage", write("\x16\x03\x01\x00\x00\r\n\r\n"), 502, true},
		{"a request", write("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 502, true},
		{"both lengths", write(okHead + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), 502, true},
		{"two lengths", write(okHead + "Content-Length: 2\r\nContent-Length: 9\r\n\r\nhiFOREIGN"), 502, true},
		{"a field that splits", write(okHead + "X: y\nContent-Length: 0\r\n\r\n"), 502, true},
		{"101 that nobody asked for", write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + foreign), 502, true},
		{"endless 1xx", forever("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), 502, true},
		{"endless 100", forever("", "HTTP/1.1 100 Continue\r\n\r\n"), 502, true},
		{"endless head", forever(okHead, "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"), 502, true},
		{"endless line", forever(okHead+"X: ", "yyyyyyyyyyyyyyyyyyyyyyyy"), 502, true},
		{"endless chunk extension", forever(okHead+"Transfer-Encoding: chunked\r\n\r\n1;", "yyyyyyyyyyyyyyyyyyyyyyyyy"), 200, false},
		{"endless extensions", forever(okHead+"Transfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("y", 200)+"\r\nx\r\n"), 200, false},
		{"endless trailer", forever(okHead+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"), 200, false},
		{"slow head", drip(okHead, "X: y\r\n"), 502, true},
		{"slow 1xx", drip("", "HTTP/1.1 103 Early Hints\r\n"), 502, true},
		{"slow body", drip(okHead+"Content-Length: 100000\r\n\r\n", "x"), 200, false},
		{"slow chunks", drip(okHead+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), 200, false},
		{"framing in the trailer", write(okHead + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n"), 200, false},
	}
	eachWay(t, func(t *testing.T, on way) {
		for _, e := range cases {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				f := newFront(t, evilCell(t, e.evil), 500*time.Millisecond, on)
				w := canary(f, dial(t, f.addr), "before")
				w.send(get + "/evil" + host1 + "\r\n")
				status, body, _, err := w.answer("GET")
				if status != e.status && (err == nil || e.whole) || (err == nil) != e.whole || strings.Contains(body, "FOREIGN") {
					t.Errorf("got %d %.100q, %v, want %d, whole %v", status, body, err, e.status, e.whole)
				}
				for i := range 3 {
					w = canary(f, w, fmt.Sprintf("after-%d", i))
				}
			})
		}
	})
}

// TestBytesWhileIdle: what a cell says on a connection that is idle is no answer
// to the next request. (What it says too early to a request that was already
// sent cannot be told from the answer: HTTP/1.1 has no names for exchanges. It
// can only be another answer of the same cell.)
func TestBytesWhileIdle(t *testing.T) {
	t.Parallel()
	eachWay(t, bytesWhileIdle)
}

func bytesWhileIdle(t *testing.T, on way) {
	answered, said := make(chan struct{}), make(chan struct{})
	f := newFront(t, evilCell(t, func(c net.Conn) {
		_, _ = io.WriteString(c, okHead+"Content-Length: 2\r\n\r\nhi")
		<-answered
		_, _ = io.WriteString(c, okHead+"Content-Length: 7\r\n\r\nFOREIGN")
		close(said)
	}), patience, on)
	w := dial(t, f.addr)
	w.send(get + "/evil" + host1 + "\r\n")
	if status, body, _, err := w.answer("GET"); status != 200 || body != "hi" || err != nil {
		t.Errorf("got %d %q, %v", status, body, err)
	}
	for deadline := time.Now().Add(patience); f.kept() != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the connection was not kept, though its exchange was clean")
		}
		time.Sleep(time.Millisecond) // the pause of a poll with a deadline
	}
	close(answered)
	<-said
	canary(f, w, "after")
}

// TestEvilCellsCostLittle: cells that never end cost bounded memory and CPU, whatever it is that
// has no end. It is not parallel: it measures the process.
func TestEvilCellsCostLittle(t *testing.T) {
	const clients, chunked = 20, okHead + "Transfer-Encoding: chunked\r\n\r\n"
	for kind, tt := range map[string]struct {
		evil    func(net.Conn)
		timeout time.Duration // of each exchange
		most    time.Duration // of CPU, for all of them and the cell
	}{
		"dripping chunks": {drip(chunked, "1\r\nx\r\n"), time.Second, clients * time.Second / 4},
		// Who read one of these until the exchange is over would use all processors meanwhile.
		"1xx":                 {forever("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), 4 * time.Second, time.Second},
		"head":                {forever(okHead, "X: "+strings.Repeat("y", 100)+"\r\n"), 4 * time.Second, time.Second},
		"line":                {forever(okHead+"X: ", strings.Repeat("y", 100)), 4 * time.Second, time.Second},
		"a chunk's extension": {forever(chunked+"1;", strings.Repeat("y", 100)), 4 * time.Second, time.Second},
		"chunks' extensions":  {forever(chunked, "1;"+strings.Repeat("y", 200)+"\r\nx\r\n"), 4 * time.Second, time.Second},
		"trailer":             {forever(chunked+"0\r\n", "X: y\r\n"), 4 * time.Second, time.Second},
	} {
		for name, on := range ways {
			t.Run(kind+", "+name, func(t *testing.T) {
				f := newFront(t, evilCell(t, tt.evil), tt.timeout, on)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				cpu := cpuTime(t)
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						w := dial(t, f.addr)
						w.send(get + "/evil" + host1 + "\r\n")
						if status, _, _, err := w.answer("GET"); err == nil && status == 200 {
							t.Error("an endless answer has ended")
						}
					})
				}
				wg.Wait()
				used := cpuTime(t) - cpu
				runtime.ReadMemStats(&after)
				// 20 exchanges with the buffers of both sides, and the test's own.
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
					t.Errorf("took %d bytes of memory", grown)
				}
				if used > tt.most {
					t.Errorf("used %v of CPU for %d exchanges of %v", used, clients, tt.timeout)
				}
			})
		}
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(os.NewSyscallError("getrusage", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
