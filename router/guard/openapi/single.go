package openapi

import (
	"net/http"
	"net/url"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cellway/cellway/infra/problem"
)

// A single is a parameter that has one value. The validator looks at one, and a cell may
// read another.
type single struct{ in, name string }

func singles(all ...openapi3.Parameters) (out []single) {
	for _, list := range all {
		for _, p := range list {
			if v := p.Value; v.In == openapi3.ParameterInHeader && !many(v) || v.In == openapi3.ParameterInQuery && (!many(v) || v.Explode != nil && !*v.Explode) {
				out = append(out, single{v.In, v.Name})
			}
		}
	}
	return out
}

// many reports whether a parameter may be a list, or anything.
func many(p *openapi3.Parameter) bool {
	if p.Schema == nil {
		return false
	}
	t := p.Schema.Value.Type
	return t == nil || t.Includes("array") || t.Includes("object")
}

// unheld is what of r the validator does not see: what of the query cannot be read, as
// net/http leaves it away, and values after the first.
func (o *operation) unheld(r *http.Request) (out []problem.Field) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return []problem.Field{{Pointer: "query", Detail: "cannot be read"}}
	}
	for _, s := range o.singles {
		values := query[s.name]
		if s.in == openapi3.ParameterInHeader {
			values = r.Header.Values(s.name)
		}
		if len(values) > 1 {
			out = append(out, problem.Field{Pointer: s.in + "/" + s.name, Detail: "is there more than once"})
		}
	}
	return out
}
