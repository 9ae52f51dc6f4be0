package directory

import "github.com/cellway/cellway/infra/problem"

// Quotas bound how many tenants there may be, deleted ones apart; 0 is no bound.
type Quotas struct {
	Tenants   int // in all
	PerCaller int // that one caller created; those who signed themselves up are one caller's
}

// QuotaMember is the member of a problem that says which quota was met.
const QuotaMember = "quota"

// Allow is a Conflict where another tenant would be one too many: of all that the
// cells have, or of the caller's.
func (q Quotas) Allow(cells []Cell, callers int) error {
	all := 0
	for _, c := range cells {
		all += c.Tenants
	}
	switch {
	case q.Tenants > 0 && all >= q.Tenants:
		return problem.New(problem.Conflict, "there are as many tenants as there may be: delete some, or have the directory's quota raised").With(QuotaMember, "directory")
	case q.PerCaller > 0 && callers >= q.PerCaller:
		return problem.New(problem.Conflict, "this caller has created as many tenants as it may: delete some, or have the callers' quota raised").With(QuotaMember, "caller")
	}
	return nil
}
