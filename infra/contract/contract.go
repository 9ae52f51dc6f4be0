// Package contract says, as problems do, what of a request is not as its OpenAPI
// contract has it.
package contract

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/cellway/cellway/infra/problem"
)

// What a client wrote comes back in what is said of it, and goes into the log: little
// of it, and of a few fields.
const (
	mostFields = 50
	mostName   = 100 // bytes
	mostReason = 400 // bytes, for a contract's own patterns
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

// Wrong flattens the error of openapi3filter.ValidateRequest into fields, by pointer. Of
// more than it tells it says that there are others.
func Wrong(err error) []problem.Field {
	fields := wrong(nil, "", err)
	more := len(fields) > mostFields
	fields = fields[:min(len(fields), mostFields)]
	slices.SortFunc(fields, func(a, b problem.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	if more {
		fields = append(fields, problem.Field{Detail: "and others"})
	}
	return fields
}

// wrong is Wrong; in is where err happened, "" is the body.
func wrong(out []problem.Field, in string, err error) []problem.Field {
	switch e := err.(type) { //nolint:errorlint // the validator's tree is walked level by level
	case openapi3.MultiError:
		for _, sub := range e {
			if len(out) > mostFields {
				break
			}
			out = wrong(out, in, sub)
		}
		return out
	case *openapi3filter.RequestError:
		return part(out, e)
	case *openapi3.SchemaError:
		where, why := about(e)
		if in != "" {
			where = in
		}
		return append(out, problem.Field{Pointer: where, Detail: why})
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

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// about is the RFC 6901 pointer to what e is about, and what is wrong with it. The
// validator points at the object around an unknown property; the caller wants the property.
func about(e *openapi3.SchemaError) (pointer, reason string) {
	path, reason := e.JSONPointer(), e.Reason
	if before, ok := strings.CutSuffix(reason, " is unsupported"); ok {
		if name, err := strconv.Unquote(strings.TrimPrefix(before, "property ")); err == nil {
			path = append(path, name)
			reason = fmt.Sprintf("property %q is unsupported", problem.Cut(name, mostName))
		}
	}
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		b.WriteString(escape.Replace(problem.Cut(p, mostName)))
	}
	return b.String(), problem.Cut(reason, mostReason)
}
