// Package openapi holds requests against the contract of the tenants' API, as
// cells do: what is not in it is not served, and an error names every field that
// is wrong.
package openapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/cellway/cellway/infra/contract"
	"github.com/cellway/cellway/infra/problem"
)

// maxDocument is the most bytes of a contract: nobody writes more by hand.
const maxDocument = 8 << 20

// A Contract is one OpenAPI document. It is safe for concurrent use and never
// changes.
type Contract struct{ root *node }

// Read takes a contract in YAML or JSON. It must be whole: references to other
// files are not followed. Its servers are not looked at: hosts are the router's
// business.
func Read(document []byte) (*Contract, error) {
	if len(document) > maxDocument {
		return nil, fmt.Errorf("read contract: it has more than %d bytes", maxDocument)
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("read contract: %w", oneLine(err))
	}
	if err := doc.Validate(context.Background()); err != nil { // no I/O
		return nil, fmt.Errorf("check contract: %w", oneLine(err))
	}
	doc.Servers = nil
	c := &Contract{root: &node{}}
	for path, item := range doc.Paths.Map() {
		at, names, err := c.root.grow(path)
		if err != nil {
			return nil, fmt.Errorf("check contract: %w", err)
		}
		for method, op := range item.Operations() {
			at.operations[method] = &operation{routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op}, names, singles(item.Parameters, op.Parameters)}
		}
	}
	return c, nil
}

func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// Check is nil where r keeps to the contract. path is what the cell matches: decoded,
// without /t/{slug}. body is all of r's body, looked at where whole says so; r's
// own is not read.
func (c *Contract) Check(r *http.Request, path string, body []byte, whole bool) error {
	var values []string
	at := c.root.find(strings.Split(strings.TrimPrefix(path, "/"), "/"), &values)
	if at == nil {
		return wrongPlace(problem.NotFound, "path", "the contract has no such path")
	}
	op, ok := at.operations[r.Method]
	if !ok {
		return wrongPlace(problem.MethodNotAllowed, "method", "the contract has no such method of this path").Allows(slices.Sorted(maps.Keys(at.operations))...)
	}
	params := make(map[string]string, len(values))
	for i, name := range op.names {
		params[name] = values[i]
	}
	if wrong := op.unheld(r); len(wrong) > 0 {
		return contract.Invalid(wrong)
	}
	if whole {
		with := *r
		with.Body, with.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r = &with
	}
	err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: &op.route,
		Options: &openapi3filter.Options{
			MultiError: true, ExcludeRequestBody: !whole, RejectWhenRequestBodyNotSpecified: whole, SkipSettingDefaults: true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // the router has done it
		},
	})
	if err == nil {
		return nil
	}
	fields := contract.Wrong(err)
	e := contract.Invalid(fields)
	if slices.ContainsFunc(fields, func(f problem.Field) bool { return strings.HasPrefix(f.Pointer, "path/") }) {
		e.Kind = problem.NotFound // an id that cannot be does not exist
	}
	return e
}

func wrongPlace(kind problem.Kind, pointer, detail string) *problem.Error {
	e := problem.New(kind, "%s", detail)
	e.Fields = []problem.Field{{Pointer: pointer, Detail: detail}}
	return e
}

// Part is the part of a request that an error of Check is about: path, method,
// query, header, cookie or body.
func Part(err error) string {
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || len(e.Fields) == 0 {
		return "body"
	}
	part, _, _ := strings.Cut(e.Fields[0].Pointer, "/")
	if part == "" {
		return "body"
	}
	return part
}
