package guard

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"pgregory.net/rapid"
)

// TestRoutesAreReadAsCellsReadThem: a cell matches what a path decodes to, and so do the
// policy's routes: no spelling has a request judged as of one route that the cell takes for
// another's (X15).
func TestRoutesAreReadAsCellsReadThem(t *testing.T) {
	t.Parallel()
	ru := newGuard(t, "routes: [{name: exports, prefix: /v1/exports}, {name: public, prefix: /v1/exports/public}]").rules.Load()
	cell := mux.NewRouter().SkipClean(true) // as cell.Server has it
	for _, path := range []string{"/v1/exports", "/v1/exports/public", "/v1/exports/public/{file}", "/v1/exports/{export}", "/v1/{other}"} {
		cell.NewRoute().Path(path)
	}
	class := map[string]string{"/v1/exports": "exports", "/v1/exports/public": "public", "/v1/exports/public/{file}": "public", "/v1/exports/{export}": "exports"}
	same := func(tb interface{ Fatalf(string, ...any) }, path string) (matched string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return ""
		}
		var m mux.RouteMatch
		if !cell.Match(&http.Request{Method: http.MethodGet, URL: u}, &m) {
			return ""
		}
		matched, _ = m.Route.GetPathTemplate()
		got := ""
		if at := ru.route(http.MethodGet, u.Path); at != nil {
			got = at.Name
		}
		if got != class[matched] {
			tb.Fatalf("%s is %s for the cell, and of route %q here", path, matched, got)
		}
		return matched
	}
	for path, want := range map[string]string{
		"/v1%2fexports": "/v1/exports", "/v1/%65xports": "/v1/exports", "/v1/exports%2Fpublic": "/v1/exports/public", "/v1/exports/public%2Fx": "/v1/exports/public/{file}",
		"/v1/exports%252fpublic": "/v1/{other}", "/v1/exports;public": "/v1/{other}", "/v1/EXPORTS": "/v1/{other}", "/v1/%2e%2e/v1/exports": "", "/v1//exports": "",
	} {
		if got := same(t, path); got != want {
			t.Errorf("%s is %q for the cell, want %q", path, got, want)
		}
	}
	segment := rapid.SampledFrom([]string{"v1", "%76%31", "exports", "%65xports", "exports;a", "EXPORTS", "public", "publi%63", "x", "", ".", "%2e%2e", "%00"})
	slash := rapid.SampledFrom([]string{"/", "/", "%2f", "%2F", "%252f", "%5c"})
	rapid.Check(t, func(rt *rapid.T) {
		path := strings.Builder{}
		path.WriteString("/v1")
		for range rapid.IntRange(0, 4).Draw(rt, "segments") {
			path.WriteString(slash.Draw(rt, "slash") + segment.Draw(rt, "segment"))
		}
		same(rt, path.String())
	})
}
