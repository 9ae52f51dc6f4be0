package h1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const get, host1 = "GET ", " HTTP/1.1\r\nHost: a\r\n"

// oddExchanges are what a client may do that leaves careless proxies with a
// connection on which the next answer is not the next request's.
var oddExchanges = []struct {
	name string
	do   func(w *wire) error // leaves w usable, or closed
}{
	{"GET", ask("GET", "/echo?x", "", 200, "x")},
	{"HEAD", ask("HEAD", "/echo?x", "", 200, "")},
	{"HEAD of much", ask("HEAD", "/big", "", 200, "")},
	{"204", ask("GET", "/status/204", "", 204, "")},
	{"304", ask("GET", "/status/304", "", 304, "")},
	{"404", ask("GET", "/nothing", "", 404, "404 page not found\n")},
	{"OPTIONS *", ask("OPTIONS", "*", "", 200, "")},
	{"body", ask("POST", "/body", "Content-Length: 5\r\n\r\nhello", 200, "5")},
	{"no body", ask("POST", "/body", "", 200, "0")},
	{"chunks", ask("POST", "/body", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", 200, "5")},
	{"body of a GET", ask("GET", "/body", "Content-Length: 35\r\n\r\nGET /echo?evil HTTP/1.1\r\nHost: a\r\n\r", 200, "35")},
	{"body that nobody reads", ask("POST", "/echo?x", "Content-Length: 5\r\n\r\nhello", 200, "x")},
	{"large body", ask("POST", "/body", "Content-Length: 300000\r\n\r\n"+strings.Repeat("x", 300000), 200, "300000")},
	{"large chunks", ask("POST", "/body", "Transfer-Encoding: chunked\r\n\r\n"+strings.Repeat("7530\r\n"+strings.Repeat("x", 30000)+"\r\n", 10)+"0\r\n\r\n", 200, "300000")},
	{"Expect", ask("POST", "/body", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", 200, "5")},
	{"Expect and an early answer", ask("POST", "/early", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", 413, "too much\n")},
	{"chunked answer", ask("GET", "/chunks", "", 200, strings.Repeat("x", 5000))},
	{"large answer", ask("GET", "/big", "", 200, strings.Repeat("0123456789", 300000))},
	{"103", ask("GET", "/hints", "", 200, "hinted")},
	{"Connection: close of the cell", ask("GET", "/close", "", 200, "bye")},
	{"Upgrade declined", ask("GET", "/echo?x", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200, "x")},
	{"h2c", ask("GET", "/echo?x", "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", 200, "x")},
	{"answer before the body", early},
	{"answer while the body comes", duplex},
	{"answer that is cut", cut},
	{"client leaves in its body", leave("POST /body" + host1 + "Content-Length: 100\r\n\r\nhalf")},
	{"client leaves in large body", leave("POST /body" + host1 + "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100000))},
	{"client leaves in the answer", leave(get + "/big" + host1 + "\r\n")},
	{"pipelined", pipelined},
	{"tunnel", socket},
	{"bad chunk", badChunk},
	{"HTTP/1.0", old},
}

// ask sends one request, whose fields and body are rest, and reads its answer.
func ask(method, target, rest string, status int, body string) func(*wire) error {
	if rest == "" {
		rest = "\r\n"
	}
	return func(w *wire) error {
		w.send(method + " " + target + host1 + rest)
		gotStatus, got, _, err := w.answer(method)
		if err != nil || gotStatus != status || got != body {
			return fmt.Errorf("got %d %.40q, %w", gotStatus, got, err)
		}
		return nil
	}
}

func early(w *wire) error {
	w.send("POST /early" + host1 + "Content-Length: 10000000\r\n\r\n" + strings.Repeat("x", 70000))
	status, body, resp, err := w.answer("POST")
	if err != nil || status != 413 || body != "too much\n" || !resp.Close {
		return fmt.Errorf("got %d %q, %v, %w", status, body, resp, err)
	}
	return w.Close()
}

func duplex(w *wire) error {
	part := strings.Repeat("x", 20000)
	w.send("POST /mirror" + host1 + "Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + part + "\r\n")
	resp, err := http.ReadResponse(w.from, nil)
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := io.ReadFull(resp.Body, make([]byte, len(part))); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		w.send("4e20\r\n" + part + "\r\n")
	}
	w.send("0\r\n\r\n")
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != int64(len(part)) {
		return fmt.Errorf("rest: got %d, %w", n, err)
	}
	return w.Close() // the answer began before the body had ended: the connection has
}

func cut(w *wire) error {
	w.send(get + "/abort" + host1 + "\r\n")
	if status, body, _, err := w.answer("GET"); err == nil {
		return fmt.Errorf("a cut answer looks whole: %d %q", status, body)
	}
	return w.Close()
}

func leave(in string) func(*wire) error {
	return func(w *wire) error {
		w.send(in)
		return w.Close()
	}
}

func pipelined(w *wire) error {
	w.send(get + "/echo?1" + host1 + "\r\nHEAD /big" + host1 + "\r\nPOST /body" + host1 + "Content-Length: 2\r\n\r\nhi" + get + "/echo?4" + host1 + "\r\n")
	for i, want := range []string{"1", "", "2", "4"} {
		method := "GET"
		if i == 1 {
			method = "HEAD"
		}
		if _, body, _, err := w.answer(method); err != nil || body != want {
			return fmt.Errorf("answer %d: got %q, %w", i, body, err)
		}
	}
	return nil
}

func socket(w *wire) error {
	w.send(get + "/socket" + host1 + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	status, _, resp, err := w.answer("GET")
	if err != nil || status != 101 || resp.Header.Get("Sec-Websocket-Accept") != "x" {
		return fmt.Errorf("got %d, %w", status, err)
	}
	w.send("GET /echo?evil HTTP/1.1\r\n\r\n")
	if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(w.from)
	if err != nil || string(got) != "hello GET /echo?evil HTTP/1.1\r\n\r\n" {
		return fmt.Errorf("tunnel: got %q, %w", got, err)
	}
	return w.Close()
}

func badChunk(w *wire) error {
	w.send("POST /body" + host1 + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nGET /echo?evil HTTP/1.1\r\nHost: a\r\n\r\n")
	status, _, resp, err := w.answer("POST")
	if err != nil || status != 502 || !resp.Close { // the front of the tests has one status for all
		return fmt.Errorf("got %d, %w", status, err)
	}
	return w.Close()
}

func old(w *wire) error {
	w.send("GET /chunks HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
	got, err := io.ReadAll(w.from)
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\n"+strings.Repeat("x", 5000)) || strings.Contains(string(got), "chunked") {
		return fmt.Errorf("got %.200q, %w", got, err)
	}
	return w.Close()
}

// TestCanary: after every odd exchange the next requests get their own answers.
func TestCanary(t *testing.T) {
	t.Parallel()
	cell := newCell(t)
	eachWay(t, func(t *testing.T, on way) {
		for _, o := range oddExchanges {
			t.Run(o.name, func(t *testing.T) {
				t.Parallel()
				f := newFront(t, cell, patience, on)
				w := canary(f, dial(t, f.addr), "before")
				if err := o.do(w); err != nil {
					t.Error(err)
				}
				for i := range 3 {
					w = canary(f, w, fmt.Sprintf("after-%d", i))
				}
			})
		}
	})
}

// TestCanaryInAnyOrder is TestCanary with odd exchanges one after the other, by
// several clients over few upstream connections.
func TestCanaryInAnyOrder(t *testing.T) {
	t.Parallel()
	cell := newCell(t)
	eachWay(t, func(t *testing.T, on way) {
		f := newFront(t, cell, patience, on)
		rapid.Check(t, func(r *rapid.T) {
			wires := []*wire{dial(t, f.addr), dial(t, f.addr)}
			for i, n := range rapid.SliceOfN(rapid.IntRange(0, len(oddExchanges)-1), 1, 8).Draw(r, "exchanges") {
				k := i % len(wires)
				if err := oddExchanges[n].do(wires[k]); err != nil {
					r.Fatalf("%s: %v", oddExchanges[n].name, err)
				}
				wires[k] = canary(f, wires[k], fmt.Sprintf("n-%d-%d", i, time.Now().UnixNano()))
			}
			for _, w := range wires {
				_ = w.Close()
			}
		})
		for deadline := time.Now().Add(patience); f.kept() == 0; time.Sleep(time.Millisecond) { // the pause of a poll: the last one is kept when its answer was read
			if time.Now().After(deadline) {
				t.Fatal("no upstream connection is kept")
			}
		}
	})
}
