package h1

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRequestsThatPass(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     message
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "GET", target: "/", host: "a"}},
		{
			"fields in their order and spelling", "GET /a?b=;&c=%zz HTTP/1.1\r\nhOST:\tA.b:80 \r\nx-y:  1 \t\r\nX-Y: 2\r\nEmpty:\r\n\r\n",
			message{method: "GET", target: "/a?b=;&c=%zz", host: "A.b:80", fields: []string{"x-y: 1", "X-Y: 2", "Empty: "}},
		},
		{"odd but legal path", "GET /a|b//c%2F;d=[e] HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "GET", target: "/a|b//c%2F;d=[e]", host: "a"}},
		{"text beyond ASCII in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\r\n\r\n", message{method: "GET", target: "/", host: "a", fields: []string{"X: \xc3\xa9"}}},
		{"absolute form", "GET http://A:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n", message{method: "GET", target: "/x?y", host: "a:80"}},
		{"absolute form without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "GET", target: "/", host: "a"}},
		{"absolute form with a query only", "GET https://a?x HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "GET", target: "/?x", host: "a"}},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "OPTIONS", target: "*", host: "a"}},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", message{method: "GET", target: "/", host: "[::1]:80"}},
		{"own method", "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", message{method: "PURGE", target: "/", host: "a"}},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", message{method: "GET", target: "/", host: "a", close: true}},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello", message{method: "POST", target: "/", host: "a", body: "hello"}},
		{
			"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y z\"\r\nhello\r\n00A\r\n, all of u\r\n0;z\r\nX-T: v\r\n\r\n",
			message{method: "POST", target: "/", host: "a", body: "hello, all of u"},
		},
		{
			"fields of the connection", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close , X-Hop,,keep-alive\r\nKeep-Alive: 5\r\nx-hop: 1\r\nX_Hop: 2\r\nTE: trailers\r\nTrailer: x\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\n\r\n",
			message{method: "GET", target: "/", host: "a", close: true, fields: []string{"X_Hop: 2"}},
		},
	} {
		all, err := judge([]byte(tt.in))
		if err != nil || len(all) != 1 || !same(all[0], tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, all, err, tt.want)
		}
	}
}

func same(a, b message) bool {
	return a.method == b.method && a.target == b.target && a.host == b.host && a.body == b.body && a.close == b.close && slices.Equal(a.fields, b.fields)
}

func TestRequestsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	in := "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: b\r\n\r\nPOST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: d\r\n\r\n"
	all, err := judge([]byte(in))
	if err != nil || len(all) != 4 || all[0].body != "abc" || all[2].body != "x" || all[3].target != "/4" {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestWhatARequestAsks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fields                         string
		waits, socket, trailers, ended bool
	}{
		{"X: y", false, false, false, false},
		{"Expect: 100-Continue\r\nContent-Length: 1", true, false, false, false},
		{"Expect: 100-continue", false, false, false, false}, // there is no body to wait for
		{"Connection: Upgrade\r\nUpgrade: WebSocket", false, true, false, false},
		{"Connection: close, upgrade\r\nUpgrade: websocket", false, true, false, true},
		{"Upgrade: websocket", false, false, false, false}, // not said of this connection
		{"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x", false, false, false, false},
		{"Connection: Upgrade\r\nUpgrade: websocket, h2c", false, false, false, false},
		{"TE: trailers", false, false, true, false},
		{"TE: gzip, Trailers", false, false, true, false},
		{"TE: gzip", false, false, false, false},
	} {
		var r Request
		r.Begin(Limits{})
		in := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + tt.fields + "\r\n\r\n")
		if n, f := r.Parse(in); f != None || n != len(in) {
			t.Errorf("%q: got %d, %v", tt.fields, n, f)
			continue
		}
		r.Alias(in)
		if r.Continue() != tt.waits || r.WebSocket() != tt.socket || r.Trailers() != tt.trailers || r.Close() != tt.ended {
			t.Errorf("%q: got waits %v, socket %v, trailers %v, close %v", tt.fields, r.Continue(), r.WebSocket(), r.Trailers(), r.Close())
		}
	}
}

// TestAnySplitGivesTheSame: how the bytes of valid and of bad requests are cut
// into reads changes nothing.
func TestAnySplitGivesTheSame(t *testing.T) {
	t.Parallel()
	seeds := []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n",
	}
	for _, c := range desync() {
		if len(c.in) < 4096 {
			seeds = append(seeds, c.in)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(seeds), 1, 3).Draw(t, "messages"), ""))
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 50).Draw(t, "sizes")
		want, wantErr := judge(in)
		got, gotErr := judge(in, sizes...)
		if gotErr != wantErr || !slices.EqualFunc(got, want, same) { //nolint:errorlint // values of this package
			t.Fatalf("%q in %v: got %+v, %v, want %+v, %v", in, sizes, got, gotErr, want, wantErr)
		}
	})
}

func TestSplitsOfLargeHeads(t *testing.T) {
	t.Parallel()
	for _, c := range limits() {
		want, wantErr := judge([]byte(c.in))
		for _, size := range []int{1, 7, 1000, 16383, 16384, 16385} {
			if got, err := judge([]byte(c.in), size); err != wantErr || len(got) != len(want) { //nolint:errorlint // as above
				t.Errorf("%s by %d: got %v, want %v", c.class, size, err, wantErr)
			}
		}
	}
}

const typical = "GET /v1/projects?limit=50&cursor=abc HTTP/1.1\r\nHost: acme.cellway.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: application/json\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAuthorization: Bearer cw_0123456789abcdefghijklmnopqrstuvwxyz\r\n" +
	"X-Request-Id: 0123456789abcdef\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: keep-alive\r\n\r\n"

func TestParsingAllocatesNothing(t *testing.T) {
	var r Request
	var b Body
	out := make([]byte, 0, 4096)
	in := []byte(typical)
	chunked := []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n")
	allocs := testing.AllocsPerRun(100, func() {
		r.Begin(Limits{})
		n, _ := r.Parse(in)
		r.Alias(in[:n])
		out = AppendRequestLine(out[:0], r.Method(), r.Target(), r.Host())
		out = r.AppendPassedOn(out, nil)
		out = AppendLength(out, r.Length())

		r.Begin(Limits{})
		n, _ = r.Parse(chunked)
		b.Begin(r.Length(), Limits{}, true)
		for !b.Done() {
			_, used, f := b.Next(chunked[n:])
			if n += used; f != None || used == 0 {
				t.Fatal(f)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("got %v allocations, want none", allocs)
	}
}

func BenchmarkRequest(b *testing.B) {
	var r Request
	in := []byte(typical)
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		r.Begin(Limits{})
		n, f := r.Parse(in)
		if f != None {
			b.Fatal(f)
		}
		r.Alias(in[:n])
		out = AppendRequestLine(out[:0], r.Method(), r.Target(), r.Host())
		out = r.AppendPassedOn(out, nil)
	}
}

// BenchmarkRequestOfNetHTTP is what BenchmarkRequest compares with.
func BenchmarkRequestOfNetHTTP(b *testing.B) {
	in := strings.NewReader("")
	from := bufio.NewReader(in)
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		in.Reset(typical)
		from.Reset(in)
		r, err := http.ReadRequest(from)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Header.Write(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
