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

// TestTheContractIsStrict: an object that takes any property, or a POST that
// cannot be repeated, would be a hole that no other test sees.
func TestTheContractIsStrict(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(cell.Contract)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range doc.Components.Schemas {
		if s.Value.Type.Is("object") && (s.Value.AdditionalProperties.Has == nil || *s.Value.AdditionalProperties.Has) {
			t.Errorf("schema %s takes any property", name)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
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
