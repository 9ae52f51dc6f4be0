package cell

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"

	"github.com/cellway/cellway/infra/contract"
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
		return contract.Invalid([]problem.Field{{Pointer: "", Detail: "is not valid JSON"}})
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
	fields := contract.Wrong(err)
	if slices.ContainsFunc(fields, func(f problem.Field) bool { return strings.HasPrefix(f.Pointer, "path/") }) {
		return problem.New(problem.NotFound, "no such thing") // an id that cannot be does not exist
	}
	return contract.Invalid(fields)
}
