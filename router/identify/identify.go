// Package identify says which tenant a request is of.
//
// The sources are one chain of data ([Sources]): a verified token, the host, the
// path, a header, a cookie. Every source that is present must name the same
// tenant; one that is malformed or present twice is refused and never ignored,
// because a part behind us might read it differently.
package identify

import (
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

// A Chain finds the tenant of a request. Its fields are set once.
type Chain struct {
	BaseDomain string           // tenants are at {slug}.BaseDomain; lower case, no dot at the ends
	Keys       token.Keys       // what tenants' tokens are verified with
	Ring       *token.Ring      // which API keys are valid, which tokens revoked; nil knows none
	Others     Verifier         // of bearers that are none of ours; nil knows none
	Now        func() time.Time // nil is time.Now

	recent Recent[recalled] // tokens of ours
}

// A Verifier says whose a bearer is that is no token and no key of ours.
type Verifier interface {
	// Verify says so for a request of this method and path. Unauthenticated where
	// the bearer is not valid, Unavailable where nobody can know now.
	Verify(bearer, method, path string, now time.Time) (Bearer, error)
	// Recall is what Verify has found and would find again, at little cost; sure is
	// false where only Verify can tell.
	Recall(bearer string, now time.Time) (b Bearer, sure bool)
}

// A Bearer is whose a foreign token is.
type Bearer struct {
	Known   bool               // it is one that the verifier is for
	Waived  bool               // it cannot be verified now, and the request may go on without
	Tenant  directory.TenantID // or
	Slug    string
	Subject string
	Expires int64 // seconds since 1970; 0: it does not say
}

// A Ref is how a source names a tenant: exactly one field is set.
type Ref struct {
	ID   directory.TenantID
	Slug string
	Host string
}

// String is for people.
func (r Ref) String() string {
	switch {
	case r.ID != 0:
		return "id " + r.ID.String()
	case r.Slug != "":
		return "slug " + r.Slug
	case r.Host != "":
		return "host " + r.Host
	}
	return ""
}

// in looks the tenant up.
func (r Ref) in(v *table.View) (table.Entry, bool) {
	switch {
	case r.ID != 0:
		return v.ByID(r.ID)
	case r.Slug != "":
		return v.BySlug(r.Slug)
	}
	return v.ByHost(r.Host)
}

// An Answer is what one source said.
type Answer struct {
	Source string
	Ref    Ref // zero: the source is not present
	Entry  table.Entry
	Found  bool  // the table knows it
	Err    error // the source is present and not valid
}

// A Result is which tenant a request is of, and how that was found.
type Result struct {
	Entry   table.Entry
	Source  string        // the first source that named the tenant; "" where none did
	Claims  *token.Claims // of a verified tenant token or key; a part of the head, as is its Subject
	Kept    bool          // the credential stays at the edge: cells get what the router signs in its place
	key     bool          // it is an API key
	Waived  bool          // a credential could not be verified, and need not be
	Answers []Answer      // of every source, in the chain's order; by Explain only
}

// Identify finds the tenant of h in v. Where no source is present the Result has
// no Source and there is no error. Errors, in the order in which they win:
// ReservedHeader and Invalid (malformed), Unauthenticated (a token that is not
// valid), TenantNotFound, TenantConflict.
func (c *Chain) Identify(h *Head, v *table.View) (Result, error) {
	h.recalls = false
	return c.run(h, v, nil)
}

// Recall is Identify that verifies no token: one that was not verified before, or
// no longer would be, is an error. It allocates nothing where there is none.
func (c *Chain) Recall(h *Head, v *table.View) (Result, error) {
	h.recalls = true
	return c.run(h, v, nil)
}

// Explain is Identify that also says what each source answered. It asks them
// all, even after an error.
func (c *Chain) Explain(h *Head, v *table.View) (Result, error) {
	h.recalls = false
	answers := make([]Answer, 0, len(Sources))
	res, err := c.run(h, v, &answers)
	res.Answers = answers
	return res, err
}

func (c *Chain) run(h *Head, v *table.View, answers *[]Answer) (Result, error) {
	var res Result
	first := h.err
	h.verified, h.kept, h.key, h.waived = false, false, false, false
	var unknown, conflict error
	for i := range Sources {
		s := &Sources[i]
		a := Answer{Source: s.Name}
		a.Ref, a.Err = s.find(c, h)
		if a.Err == nil && a.Ref != (Ref{}) {
			a.Entry, a.Found = a.Ref.in(v)
			switch {
			case !a.Found || a.Entry.State == directory.Deleted:
				unknown = orElse(unknown, problem.New(problem.TenantNotFound, "no tenant by %s", s.Name))
			case res.Source == "":
				res.Entry, res.Source = a.Entry, s.Name
			case res.Entry.Tenant != a.Entry.Tenant:
				conflict = orElse(conflict, problem.New(problem.TenantConflict, "%s and %s name different tenants", res.Source, s.Name))
			}
		}
		first = worse(first, a.Err)
		if answers != nil {
			*answers = append(*answers, a)
		}
	}
	if err := orElse(first, orElse(unknown, conflict)); err != nil {
		return Result{Claims: h.known(), Waived: h.waived}, err
	}
	res.Kept, res.key, res.Waived = h.kept, h.key, h.waived
	if res.Claims = h.known(); h.verified {
		h.claims.Tenant = res.Entry.Tenant // a foreign token may have named it by its slug
	}
	return res, nil
}

// orElse is a, or b where a is nil.
func orElse(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// worse is the error that wins: one that says the request is malformed over one
// that says its token is not valid.
func worse(a, b error) error {
	if a == nil || (b != nil && problem.KindOf(a) == problem.Unauthenticated) {
		return orElse(b, a)
	}
	return a
}

func (c *Chain) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}
