package cell

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"

	"github.com/cellway/cellway/infra/problem"
)

// readBody takes the whole body, at most limit bytes and within the request's
// deadline, and leaves it in r for the next reader.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	rc := http.NewResponseController(w)
	if end, ok := r.Context().Deadline(); ok {
		_ = rc.SetReadDeadline(end) // a writer without deadlines is a test's
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, problem.New(problem.TooLarge, "the body has more than %d bytes", limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, problem.Wrap(problem.Timeout, err, "the body did not arrive in time")
	}
	if err != nil {
		return nil, problem.Wrap(problem.Invalid, err, "the body ended early")
	}
	// From here on net/http would take the deadline for the peer's hanging up. After
	// an error it stays, because net/http goes on to read what is left of the body.
	_ = rc.SetReadDeadline(time.Time{})
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return body, nil
}

// validate holds a request against its operation in the contract. The error names
// every field that is wrong.
func validate(r *http.Request, op *routers.Route, body []byte) error {
	if len(body) > 0 && !json.Valid(body) {
		return invalid([]problem.Field{{Pointer: "", Detail: "is not valid JSON"}})
	}
	err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: mux.Vars(r), Route: op,
		Options: &openapi3filter.Options{
			MultiError: true, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // done before, see admit
		},
	})
	if err == nil {
		return nil
	}
	fields := wrongFields(nil, "", err)
	if slices.ContainsFunc(fields, func(f problem.Field) bool { return strings.HasPrefix(f.Pointer, "path/") }) {
		return problem.New(problem.NotFound, "no such thing") // an id that cannot be does not exist
	}
	slices.SortFunc(fields, func(a, b problem.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	return invalid(fields)
}

func invalid(fields []problem.Field) error {
	where := fields[0].Pointer
	if where == "" {
		where = "body"
	}
	err := problem.New(problem.Invalid, "%s: %s", where, fields[0].Detail)
	err.Fields = fields
	return err
}

// wrongFields flattens the validator's errors into fields; in is where err
// happened, "" is the body.
func wrongFields(out []problem.Field, in string, err error) []problem.Field {
	switch e := err.(type) { //nolint:errorlint // the validator's tree is walked level by level
	case openapi3.MultiError:
		for _, sub := range e {
			out = wrongFields(out, in, sub)
		}
		return out
	case *openapi3filter.RequestError:
		return wrongPart(out, e)
	case *openapi3.SchemaError:
		if in == "" {
			return append(out, problem.Field{Pointer: pointer(e), Detail: e.Reason})
		}
		return append(out, problem.Field{Pointer: in, Detail: e.Reason})
	}
	return append(out, problem.Field{Pointer: in, Detail: "cannot be read"})
}

// wrongPart is wrongFields for an error in one part of the request.
func wrongPart(out []problem.Field, e *openapi3filter.RequestError) []problem.Field {
	if p := e.Parameter; p != nil {
		in := p.In + "/" + p.Name
		if errors.Is(e.Err, openapi3filter.ErrInvalidRequired) || errors.Is(e.Err, openapi3filter.ErrInvalidEmptyValue) {
			return append(out, problem.Field{Pointer: in, Detail: e.Err.Error()})
		}
		return wrongFields(out, in, e.Err)
	}
	switch {
	case e.Err == nil: // the only body error without a cause
		return append(out, problem.Field{Pointer: "header/Content-Type", Detail: "must be application/json"})
	case errors.Is(e.Err, openapi3filter.ErrInvalidRequired):
		return append(out, problem.Field{Pointer: "", Detail: "a body is required"})
	case e.RequestBody == nil:
		return append(out, problem.Field{Pointer: "", Detail: e.Err.Error()})
	}
	return wrongFields(out, "", e.Err)
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
