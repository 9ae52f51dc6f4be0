package cell_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell"
)

func TestWhatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	for _, tt := range []struct {
		name string
		q    request
		want string // pointers
	}{
		{"unknown field", request{method: "POST", body: `{"name":"x","tenant_id":102}`}, "[/tenant_id]"},
		{"two unknown fields", request{method: "POST", body: `{"name":"x","a/b":1,"c~d":2}`}, "[/a~1b /c~0d]"},
		{"another case", request{method: "POST", body: `{"Name":"x"}`}, "[/Name /name]"},
		{"missing field", request{method: "POST", body: `{}`}, "[/name]"},
		{"wrong type", request{method: "POST", body: `{"name":7}`}, "[/name]"},
		{"null", request{method: "POST", body: `{"name":null}`}, "[/name]"},
		{"blank", request{method: "POST", body: `{"name":"  "}`}, "[/name]"},
		{"NUL", request{method: "POST", body: `{"name":"a","description":"\u0000"}`}, "[/description]"},
		{"not an object", request{method: "POST", body: `[]`}, "[]"},
		{"not JSON", request{method: "POST", body: `{"name":`}, "[]"},
		{"two values", request{method: "POST", body: `{"name":"x"}{"name":"y"}`}, "[]"},
		{"no body", request{method: "POST"}, "[]"},
		{"no media type", request{method: "POST", body: `{"name":"x"}`, header: map[string]string{"Content-Type": ""}}, "[header/Content-Type]"},
		{"another media type", request{method: "POST", body: `{"name":"x"}`, header: map[string]string{"Content-Type": "text/plain"}}, "[header/Content-Type]"},
		{"body of a GET", request{method: "GET", body: `{"name":"x"}`}, "[]"},
		{"empty change", request{method: "PATCH", path: "/" + p.ID, body: `{}`, header: map[string]string{"If-Match": "*"}}, "[]"},
		{"no If-Match", request{method: "PATCH", path: "/" + p.ID, body: `{"name":"x"}`}, "[header/If-Match]"},
		{"If-Match without quotes", request{method: "PATCH", path: "/" + p.ID, body: `{"name":"x"}`, header: map[string]string{"If-Match": "1"}}, "[header/If-Match]"},
		{"long key", request{method: "POST", body: `{"name":"x"}`, header: map[string]string{"Idempotency-Key": "a b"}}, "[header/Idempotency-Key]"},
	} {
		tt.q.path = "/v1/projects" + tt.q.path
		r := h.send(tt.q)
		got := decode[document](t, r)
		var pointers []string
		for _, e := range got.Errors {
			pointers = append(pointers, e.Pointer)
			if e.Detail == "" {
				t.Errorf("%s: no detail for %q", tt.name, e.Pointer)
			}
		}
		if r.status != 400 || got.Code != "invalid" || len(got.Errors) == 0 || fmt.Sprint(pointers) != tt.want {
			t.Errorf("%s: got %d %v, want %s\n%s", tt.name, r.status, pointers, tt.want, r.body)
		}
	}
	if got, want := h.position(acme), int64(1); got != want {
		t.Errorf("events: got %d, want %d", got, want)
	}
}

// An operation that does not list the Idempotency-Key takes one all the same.
func TestAKeyHasTheSameFormEverywhere(t *testing.T) {
	t.Parallel()
	unlisted := cell.Unlisted(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
	for _, key := range []string{strings.Repeat("k", 256), "a b", "\xe9", "\t."} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		unlisted.ServeHTTP(w, r)
		if w.Code != 400 || !strings.Contains(w.Body.String(), "header/Idempotency-Key") {
			t.Errorf("%q: got %d %s", key, w.Code, w.Body)
		}
	}
}

// TestWhatIsWrongIsSaidShortly: a client's own words fill neither the answer nor the log,
// where they would take the place of other tenants' lines.
func TestWhatIsWrongIsSaidShortly(t *testing.T) {
	t.Parallel()
	h := start(t)
	var many, long strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&many, `,"%d":1`, i)
	}
	for i := range 60 {
		fmt.Fprintf(&long, `,"%d%s":1`, i, strings.Repeat("\x7f", 5000))
	}
	for name, tt := range map[string]struct {
		more   string
		fields int
	}{
		"many unknown fields": {many.String(), 51},
		"a long name":         {`,"` + strings.Repeat("\x7f", 500_000) + `":1`, 1},
		"many long names":     {long.String(), 51},
	} {
		before := len(h.log.String())
		r := h.send(request{method: "POST", path: "/v1/projects", body: `{"name":"x"` + tt.more + `}`})
		got := decode[document](t, r)
		if r.status != 400 || got.Code != "invalid" || len(got.Errors) != tt.fields {
			t.Errorf("%s: got %d with %d errors, want 400 with %d", name, r.status, len(got.Errors), tt.fields)
		}
		if n := len(r.body); n > 64<<10 {
			t.Errorf("%s: an answer of %d bytes, want 64 KiB at most", name, n)
		}
		if n := len(h.log.String()) - before; n > 8<<10 {
			t.Errorf("%s: %d bytes in the log, want 8 KiB at most", name, n)
		}
	}
}

func TestAnIDThatCannotBeDoesNotExist(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, id := range []string{"x", "1", "proj_", "%00", "%27", "..%2f", "a%20b"} {
		h.want(404, request{method: "GET", path: "/v1/projects/" + id})
	}
}

// TestACursorThatSomeoneMakesUp has the right checksum, which needs no secret, over what is no id.
func TestACursorThatSomeoneMakesUp(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, after := range []string{"\x00", "proj_\xff", "proj_1\n"} {
		sum := sha256.Sum256(fmt.Appendf(nil, "cellway cursor v1\x00%d\x00projects\x00%s", acme, after))
		cursor := base64.RawURLEncoding.EncodeToString(append(sum[:12], after...))
		h.want(400, request{method: "GET", path: "/v1/projects?cursor=" + cursor})
	}
}
