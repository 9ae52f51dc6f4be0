package router_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
)

// TestOnlyTheFencesRefusalIsRepeated: a cell's 421 that is not the fence's own document does not say
// that nothing was done, as where a module relays another server's. What has effects is then
// not sent again, and its client does not read a 421, at which it might send it again itself.
func TestOnlyTheFencesRefusalIsRepeated(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusMisdirectedRequest)
		_, _ = io.WriteString(w, `{"code":"stale_epoch"}`)
		panic(http.ErrAbortHandler)
	}
	says := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(http.StatusMisdirectedRequest)
			_, _ = io.WriteString(w, body)
		}
	}
	moved := func(w http.ResponseWriter, r *http.Request) { sendsAway(w, r, problem.New(problem.Stale, "not mine")) }
	another := func(w http.ResponseWriter, r *http.Request) {
		sendsAway(w, r, problem.New(problem.Misdirected, "not here"))
	}
	for name, tt := range map[string]struct {
		cell   http.HandlerFunc
		method string
		status int
	}{
		"nothing":               {says("", ""), "POST", 502},
		"nothing, to DELETE":    {says("", ""), "DELETE", 502},
		"nothing, to GET":       {says("", ""), "GET", 502},
		"nothing, to HEAD":      {says("", ""), "HEAD", 502},
		"another one, to HEAD":  {another, "HEAD", 502},
		"of before, to HEAD":    {says(problem.ContentType, ""), "HEAD", 503},
		"a page":                {says("text/html", "<h1>421</h1>"), "POST", 502},
		"another problem":       {says(problem.ContentType, `{"code":"misdirected"}`), "POST", 502},
		"a problem's type only": {says(problem.ContentType, ""), "POST", 502},
		"a document that ends":  {cut, "POST", 503},
		"the fence":             {moved, "POST", 200},
		"the fence, to HEAD":    {moved, "HEAD", 200},
	} {
		for _, on := range []string{engine, "HTTP/2"} {
			t.Run(name+", "+on, func(t *testing.T) {
				t.Parallel()
				var w *world
				var asked atomic.Int64
				refuses := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/x" {
						return // a probe
					}
					_, _ = io.Copy(io.Discard, r.Body)
					asked.Add(1)
					w.placed(place(1, "c2", 2, directory.Active), "acme") // where it would be sent
					tt.cell(rw, r)
				})
				serves := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
				w = newWorld(t, map[directory.CellID]http.Handler{"c1": refuses, "c2": serves}, nil)
				if on == "HTTP/2" {
					w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
					w.client = overH2C(t)
				}
				body, n := "", int64(1)
				if tt.method == "POST" {
					body = "x"
				}
				if tt.status == 200 {
					n = 2
				}
				if a := w.do(tt.method, acme, "/x", body); a.StatusCode != tt.status || asked.Load() != n {
					t.Errorf("got %d %s, and cells were asked %d times, want %d and %d", a.StatusCode, a.body, asked.Load(), tt.status, n)
				}
			})
		}
	}
}
