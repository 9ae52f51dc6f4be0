// Package contract says, as problems do, what of a request is not as its OpenAPI
// contract has it.
package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/cellway/cellway/infra/problem"
)

// Invalid is the problem of a request whose fields are wrong; there is one at least.
func Invalid(fields []problem.Field) *problem.Error {
	where := fields[0].Pointer
	if where == "" {
		where = "body"
	}
	err := problem.New(problem.Invalid, "%s: %s", where, fields[0].Detail)
	err.Fields = fields
	return err
}

// Wrong flattens the error of openapi3filter.ValidateRequest into fields, by pointer.
func Wrong(err error) []problem.Field {
	fields := wrong(nil, "", err)
	slices.SortFunc(fields, func(a, b problem.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	return fields
}

// wrong is Wrong; in is where err happened, "" is the body.
func wrong(out []problem.Field, in string, err error) []problem.Field {
	switch e := err.(type) { //nolint:errorlint // the validator's tree is walked level by level
	case openapi3.MultiError:
		for _, sub := range e {
			out = wrong(out, in, sub)
		}
		return out
	case *openapi3filter.RequestError:
		return part(out, e)
	case *openapi3.SchemaError:
		if in == "" {
			return append(out, problem.Field{Pointer: pointer(e), Detail: e.Reason})
		}
		return append(out, problem.Field{Pointer: in, Detail: e.Reason})
	}
	return append(out, problem.Field{Pointer: in, Detail: "cannot be read"})
}

// part is wrong for an error in one part of the request.
func part(out []problem.Field, e *openapi3filter.RequestError) []problem.Field {
	if p := e.Parameter; p != nil {
		in := p.In + "/" + p.Name
		if errors.Is(e.Err, openapi3filter.ErrInvalidRequired) || errors.Is(e.Err, openapi3filter.ErrInvalidEmptyValue) {
			return append(out, problem.Field{Pointer: in, Detail: e.Err.Error()})
		}
		return wrong(out, in, e.Err)
	}
	switch {
	case e.Err == nil: // the only body error without a cause
		return append(out, problem.Field{Pointer: "header/Content-Type", Detail: "must be application/json"})
	case errors.Is(e.Err, openapi3filter.ErrInvalidRequired):
		return append(out, problem.Field{Pointer: "", Detail: "a body is required"})
	case e.RequestBody == nil:
		return append(out, problem.Field{Pointer: "", Detail: e.Err.Error()})
	}
	return wrong(out, "", e.Err)
}

// pointer is the RFC 6901 pointer to what e is about. The validator points at the
// object around an unknown property; the caller wants the property.
func pointer(e *openapi3.SchemaError) string {
	path := e.JSONPointer()
	var unknown string
	if _, err := fmt.Sscanf(e.Reason, "property %q is unsupported", &unknown); err == nil {
		path = append(path, unknown)
	}
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	return b.String()
}
