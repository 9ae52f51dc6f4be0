package router

import (
	"net/http"
	"strings"
	"time"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/guard"
)

// checkClient asks the guard for a request of the client's address, and notes
// what a trusted hop says of where the request came from.
func (rt *Router) checkClient(w http.ResponseWriter, r *http.Request, x *exchange) (guard.Verdict, error) {
	x.maxBody = rt.MaxBody
	if forwarded := r.Header["X-Forwarded-For"]; len(forwarded) > 0 && rt.Guard.Trusts(guard.PeerOf(r.RemoteAddr)) {
		x.via = strings.Join(forwarded, ", ")
	}
	v := rt.Guard.CheckClient(rt.Guard.ClientOf(r))
	if v.Err != nil {
		tell(w, &v)
	}
	return v, v.Err
}

// checkTenant asks the guard for a request of the tenant that x has, and tells
// the client what is left of what it may do. first is what checkClient said.
func (rt *Router) checkTenant(w http.ResponseWriter, r *http.Request, x *exchange, first guard.Verdict) (guard.Verdict, error) {
	v := rt.Guard.Check(&guard.Request{Method: r.Method, Path: r.URL.Path, Length: r.ContentLength, Tenant: x.entry.Tenant})
	said := v
	if v.Err == nil {
		said = v.Tighter(first)
	}
	tell(w, &said)
	x.maxBody = least(x.maxBody, v.MaxBody)
	return v, v.Err
}

// inspect has the guard look into a request, before it is sent for the first time.
func (rt *Router) inspect(r *http.Request, x *exchange, b *body) error {
	if x.plan != nil || !rt.Guard.Inspects(r.Method, r.URL.Path) {
		return nil
	}
	return rt.Guard.Inspect(&guard.Inspection{
		Request: r, ID: x.log.ID, Client: rt.Guard.ClientOf(r),
		Tenant: x.entry.Tenant, Body: b.prefix, Whole: b.whole, Log: rt.Log,
	})
}

// readSignup reads a sign-up whole before the directory is asked, whose connections are
// few: who sends slowly holds none. The guard looks into it.
func (rt *Router) readSignup(w http.ResponseWriter, r *http.Request, x *exchange) error {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(signupTimeout)) // every server of ours has one
	b, err := readBody(w, r, signupBody)
	if err != nil {
		return err
	}
	_ = rc.SetReadDeadline(time.Time{}) // at it net/http would take the client for gone
	if !b.whole {
		return problem.New(problem.TooLarge, "a sign-up is at most %d bytes", signupBody)
	}
	b.attach(r)
	if !rt.Guard.InspectsSignup() {
		return nil
	}
	return rt.Guard.Inspect(&guard.Inspection{
		Request: r, ID: x.log.ID, Client: rt.Guard.ClientOf(r),
		Signup: true, Body: b.prefix, Whole: true, Log: rt.Log,
	})
}

// least is the smaller of two limits, of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// tell writes RateLimit headers.
func tell(w http.ResponseWriter, v *guard.Verdict) {
	if !v.Limited() {
		return
	}
	var b [64]byte
	w.Header().Set("RateLimit-Policy", v.Policy())
	w.Header().Set("RateLimit", string(v.AppendLeft(b[:0])))
}
