package cell_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/projects"
)

func TestRoutesAndContractAreTheSame(t *testing.T) {
	t.Parallel()
	if _, err := cell.Endpoints(cell.NewAPI(nil), projects.New(nil, nil)); err != nil {
		t.Error(err)
	}
}

// routed replaces a module's routes.
type routed struct {
	cell.Module
	h      http.Handler
	routes []cell.Route
}

// Routes are the replacement.
func (m routed) Routes() (http.Handler, []cell.Route) { return m.h, m.routes }

func TestARouteThatDiffersFromTheContractStopsTheStart(t *testing.T) {
	t.Parallel()
	api := cell.NewAPI(nil)
	h, all := projects.New(nil, nil).Routes()
	for name, tt := range map[string]struct {
		routes []cell.Route
		want   string
	}{
		"missing":      {all[1:], all[0].Method + " " + all[0].Path + ": no module serves it"},
		"unknown path": {append(all[:len(all):len(all)], cell.Route{Method: "GET", Path: "/v1/x"}), "GET /v1/x: not in the contract"},
		"other method": {append(all[:len(all):len(all)], cell.Route{Method: "PUT", Path: "/v1/projects"}), "PUT /v1/projects: not in the contract"},
		"twice":        {append(all[:len(all):len(all)], all[0]), "or served twice"},
	} {
		_, err := cell.Endpoints(api, routed{projects.New(nil, nil), h, tt.routes})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestTheContractIsStrict: an object of a request that takes any property, or a POST that
// cannot be repeated, would be a hole that no other test sees. One of an answer that takes
// none breaks clients made from the contract when the next release adds one.
func TestTheContractIsStrict(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(cell.Contract)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody != nil {
				for name, closed := range objects(op.RequestBody.Value.Content) {
					if !closed {
						t.Errorf("%s %s: %s of the request takes any property", method, path, name)
					}
				}
			}
			for status, answer := range op.Responses.Map() {
				for name, closed := range objects(answer.Value.Content) {
					if closed {
						t.Errorf("%s %s: %s of the answer %s takes no new property", method, path, name, status)
					}
				}
			}
			if op.Responses.Default() == nil {
				t.Errorf("%s %s: no default problem", method, path)
			}
			if method == "POST" && op.Parameters.GetByInAndName("header", "Idempotency-Key") == nil {
				t.Errorf("%s %s: no Idempotency-Key", method, path)
			}
			if method == "PATCH" && !op.Parameters.GetByInAndName("header", "If-Match").Required {
				t.Errorf("%s %s: If-Match is not required", method, path)
			}
			if len(op.Tags) != 1 {
				t.Errorf("%s %s: %d tags, want 1", method, path, len(op.Tags))
			}
		}
	}
}

// objects are the objects in a body, by where they are, and whether each takes no property
// but its own.
func objects(content openapi3.Content) map[string]bool {
	all := map[string]bool{}
	var walk func(at string, ref *openapi3.SchemaRef)
	walk = func(at string, ref *openapi3.SchemaRef) {
		if ref == nil {
			return
		}
		s := ref.Value
		if s.Type.Is("object") {
			all[at] = s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has && s.AdditionalProperties.Schema == nil
		}
		for name, p := range s.Properties {
			walk(at+"/"+name, p)
		}
		walk(at+"/-", s.Items)
		for _, parts := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
			for _, part := range parts {
				walk(at, part)
			}
		}
	}
	for kind, media := range content {
		walk(kind, media.Schema)
	}
	return all
}
