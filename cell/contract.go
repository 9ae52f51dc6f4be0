package cell

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
)

// Contract is openapi.yaml, the contract of the tenant API.
//
//go:embed openapi.yaml
var Contract []byte

// operations reads the contract: what each route promises.
func operations() (map[Route]*routers.Route, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(Contract)
	if err != nil {
		return nil, fmt.Errorf("read contract: %w", err)
	}
	if err := doc.Validate(loader.Context); err != nil {
		return nil, fmt.Errorf("check contract: %w", err)
	}
	doc.Servers = nil // hosts and prefixes are the router's business
	ops := map[Route]*routers.Route{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			ops[Route{Method: method, Path: path}] = &routers.Route{
				Spec: doc, Path: path, PathItem: item, Method: method, Operation: op,
			}
		}
	}
	return ops, nil
}

// An endpoint is one operation and the module that serves it.
type endpoint struct {
	module string
	route  Route
	op     *routers.Route
	next   http.Handler
}

// endpoints joins the contract with the modules' routes. It fails where one has
// what the other lacks: what is not in the contract is not served.
func endpoints(ops map[Route]*routers.Route, modules []Module) ([]endpoint, error) {
	var all []endpoint
	var errs []error
	open := maps.Clone(ops)
	for _, m := range modules {
		h, routes := m.Routes()
		for _, r := range routes {
			op, ok := open[r]
			if !ok {
				errs = append(errs, fmt.Errorf("module %s serves %s %s: not in the contract, or served twice", m.Name(), r.Method, r.Path))
				continue
			}
			delete(open, r)
			all = append(all, endpoint{module: m.Name(), route: r, op: op, next: h})
		}
	}
	for r := range open {
		errs = append(errs, fmt.Errorf("contract has %s %s: no module serves it", r.Method, r.Path))
	}
	slices.SortFunc(all, func(a, b endpoint) int { return strings.Compare(a.route.Path, b.route.Path) })
	return all, errors.Join(errs...)
}
