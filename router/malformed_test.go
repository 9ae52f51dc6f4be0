package router_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
)

// TestWhatIsNotHTTPGetsAWholeProblem: as any other refusal does, under the code that its
// status has in docs/ERRORS.md, and is counted by what is wrong.
func TestWhatIsNotHTTPGetsAWholeProblem(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"h1", "loop"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, engine, twoCells(), nil)
			const host = "Host: acme." + base + "\r\n"
			for _, tt := range []struct {
				in, reason, instance string
				code                 problem.Kind
			}{
				{"HELLO\r\n\r\n", "bad_request_line", "", problem.Invalid},
				{"GET /v1/x?secret=1 HTTP/1.1\r\n\r\n", "no_host", "/v1/x", problem.Invalid},
				{"POST /v1/x HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "length_and_coding", "/v1/x", problem.Invalid},
				{"CONNECT acme:443 HTTP/1.1\r\n" + host + "\r\n", "method_refused", "", problem.MethodNotAllowed},
				{"GET /" + strings.Repeat("x", 1<<20), "target_too_long", "", problem.TargetTooLong},
				{"POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", "bad_expect", "/", problem.ExpectationFailed},
				{"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("y", 1<<20), "line_too_long", "/", problem.HeadTooLarge},
				{"GET / HTTP/2.0\r\n" + host + "\r\n", "version_refused", "", problem.VersionRefused},
			} {
				checkMalformed(t, w.first(tt.in), tt.reason, tt.instance, tt.code)
			}
			w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
			protocols := &http.Protocols{}
			protocols.SetUnencryptedHTTP2(true)
			tr := &http.Transport{Protocols: protocols}
			defer tr.CloseIdleConnections()
			w.client = &http.Client{Transport: tr, Timeout: 20 * time.Second}
			checkMalformed(t, w.do("GET", "acme."+base, "/v1/x?secret=1", "", "Content_Length", "1"), "twin_name", "/v1/x", problem.Invalid)
			if err := testutil.GatherAndCompare(w.registry, strings.NewReader(`# HELP router_malformed_total Requests that are not HTTP as the router takes it, in head or body, by what is wrong.
# TYPE router_malformed_total counter
router_malformed_total{reason="bad_expect"} 1
router_malformed_total{reason="bad_request_line"} 1
router_malformed_total{reason="length_and_coding"} 1
router_malformed_total{reason="line_too_long"} 1
router_malformed_total{reason="method_refused"} 1
router_malformed_total{reason="no_host"} 1
router_malformed_total{reason="target_too_long"} 1
router_malformed_total{reason="twin_name"} 1
router_malformed_total{reason="version_refused"} 1
`), "router_malformed_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

// first sends bytes, and does what is then to do, and returns the first answer.
func (w *world) first(in string, then ...func(*net.TCPConn)) answer {
	w.tb.Helper()
	conn, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { // who refuses does not read all; ends with conn
		_, _ = io.WriteString(conn, in)
		for _, f := range then {
			f(conn.(*net.TCPConn))
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.tb.Fatalf("%.40q: %v", in, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.tb.Errorf("%.40q: %v", in, err)
	}
	return answer{resp, string(body)}
}

func checkMalformed(t *testing.T, a answer, reason, instance string, code problem.Kind) {
	t.Helper()
	if allow := a.Header.Get("Allow"); (allow != "") != (code == problem.MethodNotAllowed) {
		t.Errorf("%s: Allow is %q", reason, allow)
	}
	type document struct {
		Type, Title, Detail, Instance, Source string
		Status                                int
		Code                                  problem.Kind
		RequestID                             string `json:"request_id"`
		Extra                                 map[string]string
	}
	var got document
	from := json.NewDecoder(strings.NewReader(a.body))
	from.DisallowUnknownFields()
	err := from.Decode(&got)
	want := document{
		Type: "https://cellway.github.io/errors#" + string(code), Title: http.StatusText(code.Status()), Detail: got.Detail, Instance: instance, Source: "router",
		Status: code.Status(), Code: code, RequestID: a.Header.Get("X-Request-Id"), Extra: map[string]string{"reason": reason},
	}
	if err != nil || a.StatusCode != want.Status || !reflect.DeepEqual(got, want) || got.Detail == "" || got.RequestID == "" {
		t.Errorf("%s: got %d %s %v, want %+v", reason, a.StatusCode, a.body, err, want)
	}
	if a.Header.Get("Content-Type") != problem.ContentType || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: got %v, want a problem that nobody keeps", reason, a.Header)
	}
}
