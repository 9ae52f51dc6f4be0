package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"

	"github.com/cellway/cellway/infra/problem"
)

// validate holds a request against its operation. It reads the body and leaves
// it to be read again. What is wrong is named: a pointer into the body, or
// "query/limit".
func validate(r *http.Request, op *routers.Route) error {
	err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: pathParams(r), Route: op,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // admit has done it
			MultiError:         true, RejectWhenRequestBodyNotSpecified: true,
		},
	})
	if err == nil {
		return nil
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.New(problem.TooLarge, "the body has more than %d bytes", large.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem.Wrap(problem.Timeout, err, "the body did not arrive in time")
	}
	fields := findings(err, "")
	e := problem.New(problem.Invalid, "%s: %s", strings.TrimLeft(fields[0].Pointer, "/"), fields[0].Detail)
	e.Fields, e.Cause = fields, err
	return e
}

// findings lists what a validator's error, found in the part of the request that
// at names ("" is the body), says is wrong.
func findings(err error, at string) []problem.Field {
	var all []problem.Field
	if many, ok := err.(openapi3.MultiError); ok { //nolint:errorlint // one level of a tree that is walked whole
		for _, one := range many {
			all = append(all, findings(one, at)...)
		}
		return all
	}
	if part, ok := errors.AsType[*openapi3filter.RequestError](err); ok {
		return inPart(part)
	}
	if schema, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		if at == "" {
			at = bodyPointer(schema)
		}
		return []problem.Field{{Pointer: at, Detail: schema.Reason}}
	}
	return []problem.Field{{Pointer: at, Detail: "cannot be read"}}
}

func inPart(e *openapi3filter.RequestError) []problem.Field {
	at := ""
	if e.Parameter != nil {
		at = e.Parameter.In + "/" + e.Parameter.Name
	}
	var parse *openapi3filter.ParseError
	switch {
	case e.Err == nil:
		return []problem.Field{{Pointer: "header/Content-Type", Detail: "must be application/json"}}
	case errors.Is(e.Err, openapi3filter.ErrInvalidRequired), errors.Is(e.Err, openapi3filter.ErrInvalidEmptyValue):
		return []problem.Field{{Pointer: at, Detail: "is required"}}
	case errors.As(e.Err, &parse) && at == "":
		return []problem.Field{{Pointer: at, Detail: "the body is not JSON"}}
	}
	return findings(e.Err, at)
}

// bodyPointer is where in the body e was found. Of an unknown property the
// validator names the object; the caller needs the property.
func bodyPointer(e *openapi3.SchemaError) string {
	path := e.JSONPointer()
	var property string
	if _, err := fmt.Sscanf(e.Reason, "property %q is unsupported", &property); err == nil {
		path = append(path, property)
	}
	pointer := ""
	for _, step := range path {
		pointer += "/" + strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
	}
	return pointer
}

// pathParams are the variable parts of the path, unescaped.
func pathParams(r *http.Request) map[string]string {
	params := map[string]string{}
	for name, escaped := range mux.Vars(r) {
		plain, err := url.PathUnescape(escaped)
		if err != nil {
			plain = escaped // net/http has parsed the path: this cannot be
		}
		params[name] = plain
	}
	return params
}

// read fills v from a body that keeps to the contract. What JSON Schema allows
// and Go does not, such as 1e0 for an integer, is Invalid.
func read(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	err := dec.Decode(v)
	if err == nil {
		return alone(dec)
	}
	e := problem.Wrap(problem.Invalid, err, "the body cannot be read")
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		e.Fields = []problem.Field{{Pointer: "/" + strings.ReplaceAll(typed.Field, ".", "/"), Detail: "must be a plain " + typed.Type.Kind().String()}}
	}
	return e
}

// alone is Invalid where more comes after what dec has read: who sends two things must not
// believe that both are done.
func alone(dec *json.Decoder) error {
	if _, err := dec.Token(); errors.Is(err, io.EOF) {
		return nil
	}
	e := problem.New(problem.Invalid, "there is more in the body than one JSON value")
	e.Fields = []problem.Field{{Pointer: "", Detail: "more comes after the JSON value"}}
	return e
}
