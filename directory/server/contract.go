package server

import (
	_ "embed"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// Contract is openapi.yaml.
//
//go:embed openapi.yaml
var Contract []byte

// An endpoint is one operation of the contract and what serves it.
type endpoint struct {
	op     *routers.Route
	allow  []token.Kind // who may call; empty is anyone
	handle handler
}

// A handler answers a request that keeps to the contract, or returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// endpoints joins the contract with the handlers, by operation id. It fails where
// one has what the other lacks, so that the two cannot drift apart.
func endpoints(handlers map[string]handler) ([]endpoint, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(Contract)
	if err != nil {
		return nil, fmt.Errorf("read contract: %w", err)
	}
	if err := doc.Validate(loader.Context); err != nil {
		return nil, fmt.Errorf("check contract: %w", err)
	}
	open := maps.Clone(handlers)
	var all []endpoint
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			h, ok := open[op.OperationID]
			if !ok {
				return nil, fmt.Errorf("contract has %s %s (%s): nothing serves it", method, path, op.OperationID)
			}
			delete(open, op.OperationID)
			route := &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op}
			e := endpoint{op: route, allow: allowed(route), handle: h}
			if _, ok := mentions[op.OperationID]; ok != slices.Contains(e.allow, token.Cell) {
				return nil, fmt.Errorf("contract and mentions differ in whether cells may call %s", op.OperationID)
			}
			all = append(all, e)
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("handlers of %v: not in the contract", slices.Sorted(maps.Keys(open)))
	}
	return all, nil
}

// allowed reads who may call from the operation's security, or the document's.
func allowed(route *routers.Route) []token.Kind {
	needs := route.Spec.Security
	if route.Operation.Security != nil {
		needs = *route.Operation.Security
	}
	var kinds []token.Kind
	for _, need := range needs {
		for scheme := range need {
			kinds = append(kinds, token.Kind(scheme))
		}
	}
	return kinds
}

// routes makes the mux: every endpoint, a 405 for the other methods of its path,
// a 404 for everything else. Paths are matched as they were sent, because a
// claim's name may hold an escaped slash.
func (s *Server) routes(all []endpoint) http.Handler {
	router := mux.NewRouter().UseEncodedPath().SkipClean(true)
	methods := map[string][]string{}
	for _, e := range all {
		router.Handle(e.op.Path, s.serve(e)).Methods(e.op.Method)
		methods[e.op.Path] = append(methods[e.op.Path], e.op.Method)
	}
	for path, allow := range methods {
		slices.Sort(allow)
		router.Handle(path, s.refuse(path, problem.New(problem.MethodNotAllowed, "this path has %v", allow).Allows(allow...)))
	}
	router.NotFoundHandler = s.refuse("none", problem.New(problem.NotFound, "no such path"))
	return router
}
