package h1

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestCheck: what could end a field, or be taken for framing, is refused before
// anybody acts on the request (X17).
func TestCheck(t *testing.T) {
	t.Parallel()
	good := func() *http.Request {
		return &http.Request{
			Method: "GET", RequestURI: "/a?b", URL: &url.URL{Path: "/a"}, Host: "acme.test", ProtoMajor: 2,
			Header: http.Header{"Accept": {"*/*"}, "Cookie": {"a=1", "b=2"}, "Te": {"trailers"}},
		}
	}
	if f := Check(good(), Limits{}); f != None {
		t.Fatalf("a good request: %v", f)
	}
	for name, tt := range map[string]struct {
		change func(r *http.Request)
		want   Fault
	}{
		"a line's end in a value":    {func(r *http.Request) { r.Header["X"] = []string{"a\r\nContent-Length: 5"} }, BadValue},
		"a bare LF in a value":       {func(r *http.Request) { r.Header["X"] = []string{"a\nb"} }, BadValue},
		"a NUL in a value":           {func(r *http.Request) { r.Header["X"] = []string{"a\x00b"} }, BadValue},
		"an end of the head":         {func(r *http.Request) { r.Header["X"] = []string{"a\r\n\r\nGET / HTTP/1.1\r\nHost: b"} }, BadValue},
		"a line's end in a TE":       {func(r *http.Request) { r.Header["Te"] = []string{"trailers\r\nX: y"} }, BadValue},
		"a colon in a name":          {func(r *http.Request) { r.Header["X: y"] = []string{"z"} }, BadName},
		"a space in a name":          {func(r *http.Request) { r.Header["X "] = []string{"z"} }, BadName},
		"a line's end in a name":     {func(r *http.Request) { r.Header["X\r\nY"] = []string{"z"} }, BadName},
		"an empty name":              {func(r *http.Request) { r.Header[""] = []string{"z"} }, BadName},
		"a coding":                   {func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} }, BadConnection},
		"a coding by another name":   {func(r *http.Request) { r.Header["Transfer_encoding"] = []string{"chunked"} }, TwinName},
		"a connection's field":       {func(r *http.Request) { r.Header["Connection"] = []string{"x"} }, BadConnection},
		"an upgrade":                 {func(r *http.Request) { r.Header["Upgrade"] = []string{"websocket"} }, BadConnection},
		"two lengths":                {func(r *http.Request) { r.Header["Content-Length"] = []string{"1", "2"} }, TwoLengths},
		"a length that is no number": {func(r *http.Request) { r.Header["Content-Length"] = []string{"+1"} }, BadLength},
		"a space in the target":      {func(r *http.Request) { r.RequestURI = "/a HTTP/1.1" }, BadTarget},
		"a line's end in the target": {func(r *http.Request) { r.RequestURI = "/a HTTP/1.1\r\nX: y" }, BadTarget},
		"a target that is no path":   {func(r *http.Request) { r.RequestURI = "a" }, BadTarget},
		"an absolute target":         {func(r *http.Request) { r.RequestURI = "http://acme.test/a" }, BadTarget},
		"a tunnel":                   {func(r *http.Request) { r.Method, r.RequestURI = "CONNECT", "acme.test" }, MethodRefused},
		"a space in the method":      {func(r *http.Request) { r.Method = "GET /b" }, BadMethod},
		"a line's end in the method": {func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX" }, BadMethod},
		"no host":                    {func(r *http.Request) { r.Host = "" }, BadHost},
		"a host with a line's end":   {func(r *http.Request) { r.Host = "a\r\nX: y" }, BadHost},
		"a host with user":           {func(r *http.Request) { r.Host = "u@a" }, BadHost},
		"too many fields":            {func(r *http.Request) { r.Header["X"] = make([]string, 200) }, TooManyFields},
		"too large a field":          {func(r *http.Request) { r.Header["X"] = []string{strings.Repeat("a", 20<<10)} }, LineTooLong},
	} {
		r := good()
		tt.change(r)
		if got := Check(r, Limits{}); got == None {
			t.Errorf("%s passed", name)
		} else if got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got.Reason(), tt.want.Reason())
		}
	}
}

// FuzzCheck: of whatever passes, the cell reads the same fields that we checked.
func FuzzCheck(f *testing.F) {
	f.Add("GET", "/", "a.test", "X-A", "b")
	f.Add("GET", "http://a.test/", "a.test", "X-A", "b")
	f.Add("POST", "/\r\n", "a.test\r\nX: y", "Transfer-Encoding", "chunked")
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		r := &http.Request{Method: method, RequestURI: target, URL: &url.URL{Path: "/"}, Host: host, Header: http.Header{name: {value}}}
		if Check(r, Limits{}) != None {
			return
		}
		var q Request
		q.Begin(Limits{})
		head := append(appendForeign(nil, r, nil), "\r\n"...)
		if n, fault := q.Parse(head); fault != None || n != len(head) {
			t.Fatalf("%q passed, and reads as %v", head, fault)
		}
		q.Bind(string(head))
		if q.Method() != method || q.Target() != target || q.Host() != host || q.Len() > 2 {
			t.Errorf("%q reads as %q %q %q with %d fields", head, q.Method(), q.Target(), q.Host(), q.Len())
		}
	})
}

// TestForeignWriter: Forward serves a request of any server's.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("X-Ours"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(b)
	}))
	defer cell.Close()
	u := &Upstream{Addr: cell.Listener.Addr().String()}
	defer u.Close()
	for range 2 { // the second on the connection of the first
		rec, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPut, "http://acme.test/x?y", io.MultiReader(io.LimitReader(zeros{}, 100<<10)))
		r.RequestURI = "/x?y"
		r.Header.Set("X-Ours", "forged")
		err := u.Forward(rec, r, &Outgoing{Fields: []Field{{"X-Ours", "true"}}})
		if err != nil || rec.Code != http.StatusTeapot || rec.Body.Len() != 100<<10 || rec.Header().Get("X-Seen") != "PUT /x?y acme.test true" {
			t.Errorf("got %d with %d bytes, %q, %v", rec.Code, rec.Body.Len(), rec.Header().Get("X-Seen"), err)
		}
	}
	if u.Kept() != 1 {
		t.Errorf("%d connections are kept, want the one", u.Kept())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
