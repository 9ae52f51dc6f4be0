package router

import (
	"errors"
	"net/http"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

// A Verdict is what the router does with a request.
type Verdict string

// The verdicts.
const (
	Forward Verdict = "forward" // to the owning cell
	Hold    Verdict = "hold"    // until the owner is known again, then forward
	Signup  Verdict = "signup"  // to the directory
	Hello   Verdict = "hello"   // answered here
	Refuse  Verdict = "refuse"  // with Err
)

// A Decision is what the router does with a request at one version of its
// table, and why. Both request paths and the explain page share it.
type Decision struct {
	identify.Result
	Verdict Verdict
	Err     error // of Refuse
	Version directory.Version
}

// asker is (*identify.Chain).Identify or Explain.
type asker func(c *identify.Chain, h *identify.Head, v *table.View) (identify.Result, error)

func (rt *Router) decide(h *identify.Head, v *table.View, ask asker) Decision {
	res, err := ask(rt.Chain, h, v)
	d := Decision{Result: res, Version: v.Version()}
	switch {
	case h.Method == http.MethodConnect || h.Method == http.MethodTrace:
		err = problem.New(problem.MethodNotAllowed, "method %s is not served", h.Method).Allows(h1.Methods)
	case rt.AuthRequired && res.Claims == nil && !res.Waived && (err == nil && res.Source != "" || errors.Is(err, problem.TenantNotFound) || errors.Is(err, problem.TenantConflict)):
		err = errNoToken // whatever the names are: who shows no token does not hear which there are
	case v.Source() == table.FromNowhere && err == nil, v.Source() != table.FromDirectory && errors.Is(err, problem.TenantNotFound):
		// Who has no table, or one of before the start, must not say that there is no such
		// tenant: it may be younger.
		err = problem.Wrap(problem.Unavailable, err, "the directory has not said yet which tenants there are").After(pool.RetrySoon)
	case err != nil:
	case res.Source == "":
		d.Verdict, err = rt.global(h)
	default:
		d.Verdict, err = verdict(res.Entry)
	}
	if err != nil {
		d.Verdict, d.Err = Refuse, err
	}
	return d
}

var errNoToken = problem.New(problem.Unauthenticated, "a tenant's bearer token is needed")

// global is what happens to a request that names no tenant.
func (rt *Router) global(h *identify.Head) (Verdict, error) {
	switch {
	case h.Path == "/signup" && h.Method == http.MethodPost:
		return Signup, nil
	case h.Path == "/signup":
		return Refuse, problem.New(problem.MethodNotAllowed, "sign up with POST").Allows(http.MethodPost)
	case h.Path == "/" && (h.Method == http.MethodGet || h.Method == http.MethodHead):
		return Hello, nil
	case rt.AuthRequired:
		return Refuse, errNoToken
	}
	return Refuse, problem.New(problem.Invalid, "the request names no tenant: by token, host, path, header or cookie")
}

// verdict is what happens to a request of a tenant; the zero Entry is of one that is gone.
func verdict(e table.Entry) (Verdict, error) {
	switch e.State {
	case directory.Cutover:
		return Hold, nil
	case directory.Suspended:
		return Refuse, problem.New(problem.TenantSuspended, "the tenant is suspended")
	case directory.Deleted, "":
		return Refuse, problem.New(problem.TenantNotFound, "the tenant is deleted")
	}
	if e.Address == "" {
		return Refuse, pool.Unavailable(nil, "the owning cell has no address")
	}
	return Forward, nil
}

// moving says that the tenant's owner is about to change and it took too long.
func moving(cause error, detail string) error {
	return problem.Wrap(problem.TenantMoving, cause, detail).After(pool.RetrySoon)
}
