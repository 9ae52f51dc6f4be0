package router_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/cellway/cellway/directory"
)

// TestTrailersThatWereNotDeclared: a name of ours that comes after the body,
// where no check can refuse it any more, does not reach the cell, whatever else was declared.
func TestTrailersThatWereNotDeclared(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	for _, declared := range []string{"", "Trailer: X-Sum\r\n"} {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: acme."+base+"\r\nTransfer-Encoding: chunked\r\n"+declared+"\r\n"+
			"2\r\nhi\r\n0\r\nCell-Assertion: evil\r\nX-Tenant: bolt\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusBadRequest {
			continue // refused by the parser: as good
		}
		r := <-got
		if len(r.Trailer) != 0 || len(r.Header.Values("Cell-Assertion")) != 1 || r.Header.Get("Cell-Assertion") == "evil" || r.Header.Get("X-Tenant") != "" {
			t.Errorf("%q: the cell got header %v, trailer %v", declared, r.Header, r.Trailer)
		}
	}
}
