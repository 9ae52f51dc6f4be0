package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest: what we take, net/http takes too and reads in the same way: where
// it ends, what it asks, every field that we pass on.
func FuzzRequest(f *testing.F) {
	for _, c := range desync() {
		f.Add([]byte(c.in))
	}
	f.Add([]byte(typical))
	f.Add([]byte("POST http://a/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\nHost: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		all, _ := judge(in)
		from := bufio.NewReader(bytes.NewReader(in))
		for _, m := range all {
			r, err := http.ReadRequest(from)
			if err != nil {
				t.Fatalf("net/http refuses %+v: %v", m, err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatalf("net/http refuses the body of %+v: %v", m, err)
			}
			if r.Method != m.method || !strings.EqualFold(r.Host, m.host) || string(body) != m.body || target(r) != m.target || !m.close && r.Close {
				t.Fatalf("got %+v, net/http reads %s %s %s %q, close %v", m, r.Method, target(r), r.Host, body, r.Close)
			}
			agree(t, m.fields, r.Header)
		}
		sizes := []int{1}
		if again, _ := judge(in, sizes...); !slices.EqualFunc(all, again, same) {
			t.Fatalf("byte by byte: got %+v, want %+v", again, all)
		}
	})
}

// target is the origin form of r's target, to the byte.
func target(r *http.Request) string {
	t := r.RequestURI
	if i := strings.Index(t, "://"); i >= 0 && !strings.HasPrefix(t, "/") {
		t = t[i+3:]
		if i := strings.IndexAny(t, "/?"); i >= 0 {
			t = t[i:]
		} else {
			t = ""
		}
		if !strings.HasPrefix(t, "/") {
			t = "/" + t
		}
	}
	return t
}

// agree checks that every field of ours is one of net/http's.
func agree(t *testing.T, fields []string, h http.Header) {
	t.Helper()
	for _, line := range fields {
		name, value, _ := strings.Cut(line, ": ")
		if !slices.Contains(h[textproto.CanonicalMIMEHeaderKey(name)], value) {
			t.Fatalf("net/http does not have %q: %v", line, h)
		}
	}
}

// FuzzAnswer: the same for answers, to GET and to HEAD.
func FuzzAnswer(f *testing.F) {
	for _, in := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nhi", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	} {
		f.Add(in, false)
		f.Add(in, true)
	}
	f.Fuzz(func(t *testing.T, in string, toHead bool) {
		got := converse(in, toHead, false, true)
		if !got.whole || len(got.interim) > 0 {
			return
		}
		method := http.MethodGet
		if toHead {
			method = http.MethodHead
		}
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(in)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses %+v: %v", got, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != got.status || string(body) != got.body || got.reusable && resp.Close {
			t.Fatalf("got %+v, net/http reads %d %q, close %v, %v", got, resp.StatusCode, body, resp.Close, err)
		}
		agree(t, got.fields, resp.Header)
	})
}

// FuzzChunks: what we write as chunks, we and net/http read as it was.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("hello"), 3)
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		var w Framer
		w.Begin(Chunked)
		var out []byte
		for rest := body; len(rest) > 0; {
			n := min(len(rest), max(1, size))
			out, _ = w.Before(out, n)
			out = w.After(append(out, rest[:n]...))
			rest = rest[n:]
		}
		out, _ = w.End(out, nil)
		in := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), out...)
		all, err := judge(in)
		if err != nil || len(all) != 1 || all[0].body != string(body) {
			t.Fatalf("got %+v, %v, want %q", all, err, body)
		}
	})
}
