package router_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// A case of the differential test is what one client sends. The two engines must
// agree on what the cell sees and on what the client gets, but where differs
// says why not.
type differing struct {
	name, in string
	answers  int     // how many are read; 0 is 1
	differs  differs // by how h1 may do otherwise
}

type differs int

const (
	no       differs = iota
	stricter         // h1 refuses, and the cell sees nothing
	exact            // net/http rewrites what the cell sees; h1 does not
	passes           // net/http's server answers by itself; h1 asks the cell
	sized            // h1 says that a body is empty by its length
)

func differentialCases() []differing {
	const head = " HTTP/1.1\r\nHost: acme." + base + "\r\n"
	return []differing{
		{name: "GET", in: "GET /echo?a=b;c&&d=%zz" + head + "X-A: 1\r\nx-a: 2\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n"},
		{name: "escaped path", in: "GET /a%2Fb/c%20d" + head + "\r\n"},
		{name: "path that net/http escapes", in: "GET /a|b" + head + "\r\n", differs: exact},
		{name: "double slash inside", in: "GET /a//b" + head + "\r\n"},
		{name: "HEAD", in: "HEAD /echo" + head + "\r\n"},
		{name: "OPTIONS *", in: "OPTIONS *" + head + "\r\n", differs: passes},
		{name: "own method", in: "PURGE /echo" + head + "\r\n"},
		{name: "absolute form", in: "GET http://acme." + base + "/echo?x HTTP/1.1\r\nHost: acme." + base + "\r\n\r\n"},
		{name: "absolute form of another host", in: "GET http://bolt." + base + "/echo HTTP/1.1\r\nHost: acme." + base + "\r\n\r\n", differs: stricter},
		{name: "POST without a body", in: "POST /echo" + head + "\r\n"},
		{name: "DELETE without a body", in: "DELETE /echo" + head + "\r\n"},
		{name: "POST of nothing", in: "POST /echo" + head + "Content-Length: 0\r\n\r\n"},
		{name: "POST", in: "POST /echo" + head + "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "GET with a body", in: "GET /echo" + head + "Content-Length: 5\r\n\r\nhello"},
		{name: "chunks", in: "POST /echo" + head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "no chunks", in: "POST /echo" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", differs: sized},
		{name: "large body", in: "POST /length" + head + "Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000)},
		{name: "large chunks", in: "POST /length" + head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("2710\r\n"+strings.Repeat("x", 10000)+"\r\n", 20) + "0\r\n\r\n"},
		{name: "body over the limit", in: "POST /length" + head + "Content-Length: 2000000\r\n\r\n"},
		{name: "Expect", in: "POST /echo" + head + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "Expect of what is refused", in: "POST /echo HTTP/1.1\r\nHost: nobody." + base + "\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
		{name: "other expectation", in: "POST /echo" + head + "Expect: miracles\r\nContent-Length: 0\r\n\r\n", differs: stricter},
		{name: "hop-by-hop", in: "GET /echo" + head + "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTe: trailers\r\n\r\n"},
		{name: "who the client says it is", in: "GET /echo" + head + "X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_Host: evil\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nTrue-Client-Ip: 1\r\n\r\n"},
		{name: "own request id", in: "GET /echo" + head + "X-Request-Id: abc-1\r\n\r\n"},
		{name: "Connection: close", in: "GET /echo" + head + "Connection: close\r\n\r\n"},
		{name: "pipelined", in: "GET /echo?1" + head + "\r\nPOST /echo?2" + head + "Content-Length: 2\r\n\r\nhiGET /echo?3" + head + "\r\n", answers: 3},
		{name: "reserved header", in: "GET /echo" + head + "Cell-Assertion: x\r\n\r\n"},
		{name: "reserved header in Connection", in: "GET /echo" + head + "Connection: cell-id\r\n\r\n"},
		{name: "reserved trailer", in: "POST /echo" + head + "Trailer: Cell-Id\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nCell-Id: x\r\n\r\n"},
		{name: "tenant twice", in: "GET /t/bolt/echo" + head + "\r\n"},
		{name: "TRACE", in: "TRACE /echo" + head + "\r\n"},
		{name: "dots", in: "GET /a/../b" + head + "\r\n"},
		{name: "HTTP/1.0", in: "GET /echo HTTP/1.0\r\nHost: acme." + base + "\r\n\r\n"},
		{name: "HTTP/1.0 and chunks", in: "GET /chunks HTTP/1.0\r\nHost: acme." + base + "\r\n\r\n"},
		{name: "no Host", in: "GET /echo HTTP/1.1\r\nX-Tenant: acme\r\n\r\n"},
		{name: "no Host, HTTP/1.0", in: "GET /echo HTTP/1.0\r\nX-Tenant: acme\r\n\r\n", differs: stricter},
		{name: "two Hosts", in: "GET /echo" + head + "Host: bolt." + base + "\r\n\r\n"},
		{name: "CL.TE", in: "POST /echo" + head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", differs: stricter},
		{name: "CL.CL", in: "POST /echo" + head + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", differs: stricter},
		{name: "CL.CL that differ", in: "POST /echo" + head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
		{name: "TE.TE", in: "POST /echo" + head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", differs: stricter},
		{name: "bare LF", in: "GET /echo HTTP/1.1\nHost: acme." + base + "\n\n", differs: stricter},
		{name: "obs-fold", in: "GET /echo" + head + "X: y\r\n z\r\n\r\n", differs: stricter},
		{name: "space before colon", in: "GET /echo" + head + "X : y\r\n\r\n"},
		{name: "NUL", in: "GET /echo" + head + "X: \x00\r\n\r\n"},
		{name: "twin", in: "POST /echo" + head + "Content_Length: 5\r\n\r\n", differs: stricter},
		{name: "fragment", in: "GET /echo#x" + head + "\r\n", differs: stricter},
		{name: "bad escape", in: "GET /%zz" + head + "\r\n"},
		{name: "text beyond ASCII in a path", in: "GET /\xc3\xa9" + head + "\r\n", differs: stricter},
		{name: "h2c", in: "GET /echo" + head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"},
		{name: "another protocol", in: "GET /echo" + head + "Connection: Upgrade\r\nUpgrade: chat\r\n\r\n"},
		{name: "WebSocket that is declined", in: "GET /echo" + head + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{name: "WebSocket by POST", in: "POST /echo" + head + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi"},
		{name: "WebSocket with a body", in: "GET /echo" + head + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi", differs: stricter},
		{name: "WebSocket over HTTP/1.0", in: "GET /echo HTTP/1.0\r\nHost: acme." + base + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{name: "credential in Connection", in: "GET /echo" + head + "Authorization: Basic eA==\r\nConnection: Authorization\r\n\r\n", differs: stricter},
		{name: "204", in: "GET /status/204" + head + "\r\n"},
		{name: "304", in: "GET /status/304" + head + "\r\n"},
		{name: "404", in: "GET /status/404" + head + "\r\n"},
		{name: "503", in: "GET /status/503" + head + "\r\n"},
		{name: "chunked answer", in: "GET /chunks" + head + "\r\n"},
		{name: "answer's hop-by-hop", in: "GET /hop" + head + "\r\n"},
		{name: "answer's cookies", in: "GET /cookies" + head + "\r\n"},
		{name: "answer's trailer", in: "GET /trailer" + head + "TE: trailers\r\n\r\n"},
		{name: "answer that is cut", in: "GET /cut" + head + "\r\n"},
		{name: "103", in: "GET /hints" + head + "\r\n"},
		{name: "103, HTTP/1.0", in: "GET /hints HTTP/1.0\r\nHost: acme." + base + "\r\n\r\n"},
		{name: "hello", in: "GET / HTTP/1.1\r\nHost: " + base + "\r\n\r\n"},
		{name: "HEAD of hello", in: "HEAD / HTTP/1.1\r\nHost: " + base + "\r\n\r\n"},
	}
}

// A witness is a cell that remembers what it was asked.
type witness struct{ seen chan string }

// ServeHTTP implements http.Handler.
func (c *witness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.seen <- fmt.Sprintf("%s %s %s, length %d %v, %s, body %d %.50q %v", r.Method, r.RequestURI, r.Host, r.ContentLength, r.TransferEncoding,
		fieldsOf(r.Header), len(body), body, err)
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	switch path := strings.TrimPrefix(r.URL.Path, "/t/acme"); path {
	case "/length":
		_, _ = fmt.Fprint(w, len(body))
	case "/chunks", "/cut":
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
			_ = http.NewResponseController(w).Flush()
		}
		if path == "/cut" {
			panic(http.ErrAbortHandler)
		}
	case "/hop":
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Cell-Secret", "x")
		h.Set("X-Request-Id", "the cell's")
	case "/cookies":
		h.Add("Set-Cookie", "a=b")
		h.Add("Set-Cookie", "c=d")
	case "/trailer":
		h.Set("Trailer", "X-Sum, Cell-Secret")
		_, _ = io.WriteString(w, "sum")
		h.Set("X-Sum", "3")
		h.Set("Cell-Secret", "x")
		h.Set(http.TrailerPrefix+"Cell-Late", "x") // is not announced
		h.Set(http.TrailerPrefix+"X-Request-Id", "the cell's")
	case "/hints":
		h.Set("Link", "</x>")
		h.Set("Cell-Secret", "x")
		h.Set("X-Request-Id", "the cell's")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "hinted")
	default:
		code := 200
		_, _ = fmt.Sscanf(path, "/status/%d", &code)
		w.WriteHeader(code)
		if r.Method != http.MethodHead && code == 200 {
			_, _ = w.Write(body)
		}
	}
}

// fieldsOf is a header as text, without what no two exchanges share and what is
// said of one connection only.
func fieldsOf(h http.Header) string {
	var all []string
	for name, values := range h {
		switch name {
		case "Cell-Assertion", "Cell-Time-Left", "Date", "Traceparent", "Connection", "Expect", "Content-Length", "Transfer-Encoding":
			continue // Expect is answered by the h1 engine itself, before it asks the cell
		case "X-Request-Id":
			if !slices.Contains(values, "abc-1") {
				values = []string{"some"}
			}
		}
		all = append(all, fmt.Sprintf("%s=%q", name, values))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// An outcome is what one engine made of a case.
type outcome struct {
	seen, got []string
	refused   bool // the first answer is the router's refusal
}

func (w *world) outcome(c differing, cell *witness) (o outcome) {
	w.tb.Helper()
	conn, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(conn, c.in) }() // who refuses does not read all; ends with conn
	method, _, _ := strings.Cut(c.in, " ")
	from := bufio.NewReader(conn)
	for range max(1, c.answers) {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		for err == nil && resp.StatusCode < 200 {
			if resp.StatusCode != 100 {
				o.got = append(o.got, fmt.Sprintf("%d %s", resp.StatusCode, fieldsOf(resp.Header)))
			}
			resp, err = http.ReadResponse(from, &http.Request{Method: method})
		}
		if err != nil {
			o.got = append(o.got, "no answer")
			break
		}
		body, err := io.ReadAll(resp.Body)
		text := fmt.Sprintf("%d %s, trailer %s, body %d %.60q, cut %v", resp.StatusCode, fieldsOf(resp.Header), fieldsOf(resp.Trailer), len(body), body, err != nil)
		if resp.StatusCode >= 400 && len(o.got) == 0 && len(cell.seen) == 0 {
			o.refused = true
			text = fmt.Sprint(resp.StatusCode) // net/http refuses with text, h1 with a problem
		}
		o.got = append(o.got, text)
	}
	for len(cell.seen) > 0 {
		o.seen = append(o.seen, <-cell.seen)
	}
	return o
}

// check says what is wrong with how h1 does otherwise. What may differ besides it
// takes out of both outcomes.
func (d differs) check(c differing, std, h1 *outcome) string {
	_, target, _ := strings.Cut(c.in, " ")
	target, _, _ = strings.Cut(target, " ")
	without := func(part string) {
		for _, o := range []*outcome{std, h1} {
			for _, texts := range [][]string{o.seen, o.got} {
				for i := range texts {
					texts[i] = strings.ReplaceAll(texts[i], part, "")
				}
			}
		}
	}
	switch d {
	case stricter:
		if !h1.refused || len(h1.seen) != 0 {
			return "h1 does not refuse it"
		}
	case exact:
		if len(h1.seen) != 1 || !strings.Contains(h1.seen[0], " "+target+" ") {
			return "the cell sees another target"
		}
	case sized:
		without("length -1 [chunked]")
		without("length 0 []")
	case passes:
		if !strings.Contains(h1.got[len(h1.got)-1], "X-Request-Id") {
			return "there is no request id"
		}
		without(`X-Request-Id=["some"]`)
	}
	return ""
}

// TestEnginesAgree: net/http with its ReverseProxy, and h1, before the same cell;
// of h1 both ways that a request can take.
func TestEnginesAgree(t *testing.T) {
	t.Parallel()
	if engine != "std" {
		t.Skip("both engines are in the other run of the tests")
	}
	cells, worlds := map[string]*witness{}, map[string]*world{}
	for _, name := range []string{"std", "h1", "loop", "handler"} {
		cell := &witness{make(chan string, 10)}
		cells[name] = cell
		worlds[name] = newWorldOn(t, name, map[directory.CellID]http.Handler{"c1": cell, "c2": cell}, nil)
	}
	for _, c := range differentialCases() {
		for _, name := range []string{"h1", "loop", "handler"} {
			std, h1 := worlds["std"].outcome(c, cells["std"]), worlds[name].outcome(c, cells[name])
			compare(t, c, name, &std, &h1)
		}
	}
}

func compare(t *testing.T, c differing, name string, std, h1 *outcome) {
	t.Helper()
	if why := c.differs.check(c, std, h1); why != "" {
		t.Errorf("%s: %s: %s: the cell saw %q, the client got %q", c.name, name, why, h1.seen, h1.got)
	}
	if c.differs == stricter || c.differs == exact {
		return
	}
	if !slices.Equal(std.seen, h1.seen) {
		t.Errorf("%s: the cell saw\n std %q\n %s  %q", c.name, std.seen, name, h1.seen)
	}
	if got := fmt.Sprint(std.got, h1.got); strings.Contains(got, "Cell-") {
		t.Errorf("%s: the client got what is ours: %s", c.name, got)
	}
	if !slices.Equal(std.got, h1.got) {
		t.Errorf("%s: the client got\n std %q\n %s  %q", c.name, std.got, name, h1.got)
	}
}
