package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

// TestWhoShowsNoTokenLearnsNoNames: where tokens are asked for, a request without one gets
// the same answer whoever its names are, one of nobody's among them, and whether the router
// has a table or none yet (X27).
func TestWhoShowsNoTokenLearnsNoNames(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		required := func(o *router.Options, _ *pool.Limits) { o.AuthRequired = true }
		w := newWorldOn(t, engine, twoCells(), required)
		young := newWorldOn(t, engine, nil, func(o *router.Options, l *pool.Limits) {
			required(o, l)
			o.Table = table.New()
		})
		want := ""
		for _, tt := range []struct {
			of                 *world
			host, path, header string
		}{
			{w, "acme." + base, "/v1/x", ""},
			{w, "stone." + base, "/v1/x", ""},
			{w, "lost." + base, "/v1/x", ""},
			{w, "nobody." + base, "/v1/x", ""},
			{w, "www.acme.com", "/v1/x", ""},
			{w, "www.nobody.com", "/v1/x", ""},
			{w, base, "/v1/x", "acme"},
			{w, base, "/v1/x", "nobody"},
			{w, base, "/v1/x", ""},
			{w, "acme." + base, "/v1/x", "bolt"},
			{w, "acme." + base, "/v1/x", "nobody"},
			{w, base, "/t/acme/v1/x", ""},
			{w, base, "/t/nobody/v1/x", ""},
			{w, "acme." + base, "/t/bolt/v1/x", ""},
			{young, "acme." + base, "/v1/x", ""},
			{young, "nobody." + base, "/v1/x", ""},
		} {
			headers := []string{"X-Request-Id", "abc-1", "X-Tenant", tt.header}
			if tt.header == "" {
				headers = headers[:2]
			}
			a := tt.of.do("GET", tt.host, tt.path, "", headers...)
			for _, name := range []string{"Date", "Traceparent", "Content-Length"} { // that one follows from the path and the trace
				a.Header.Del(name)
			}
			body := strings.ReplaceAll(traceID.ReplaceAllString(a.body, ""), tt.path, "/v1/x")
			got := fmt.Sprintln(a.Status, a.Header, body)
			if want == "" {
				want = got
			}
			if got != want || a.StatusCode != 401 {
				t.Errorf("%s: %s%s of %q: got\n%swant\n%s", engine, tt.host, tt.path, tt.header, got, want)
			}
		}
	}
}
