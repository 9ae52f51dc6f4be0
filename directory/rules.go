package directory

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cellway/cellway/infra/problem"
)

// nextCell holds every legal transition of a cell. Retired is the end.
var nextCell = map[CellState][]CellState{
	Provisioning: {Ready, Cordoned, Retired},
	Ready:        {Cordoned, Draining, Quarantine},
	Cordoned:     {Ready, Draining, Drained, Quarantine, Retired},
	Draining:     {Cordoned, Drained, Ready},
	Drained:      {Cordoned, Ready, Retired},
	Quarantine:   {Cordoned, Ready, Draining, Retired},
}

// CanBecome reports whether a cell in state s may go to state to.
func (s CellState) CanBecome(to CellState) bool { return slices.Contains(nextCell[s], to) }

// Valid reports whether s is one of the states above.
func (s CellState) Valid() bool { return s == Retired || nextCell[s] != nil }

// TakesTenants reports whether the placement policy may choose a cell in state s.
func (s CellState) TakesTenants() bool { return s == Ready }

var (
	slugForm  = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	cellForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	labelForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	hostForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	kindForm  = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,30}$`)
)

// reservedSlugs may not be a tenant's: they are, or look like, our own hosts and paths.
var reservedSlugs = []string{"admin", "api", "cellway", "directory", "router", "signup", "status", "www"}

// ParseTenantID reads the decimal form of an id.
func ParseTenantID(s string) (TenantID, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != s {
		return 0, problem.New(problem.Invalid, "tenant id %q is not a positive decimal number", s)
	}
	return TenantID(n), nil
}

// String is the decimal form.
func (t TenantID) String() string { return strconv.FormatInt(int64(t), 10) }

// Validate reports what is wrong with a cell as it is registered.
func (c Cell) Validate() error {
	var bad fieldErrors
	bad.check(cellForm.MatchString(string(c.ID)), "/id", "must match "+cellForm.String())
	bad.check(strings.HasPrefix(c.Address, "http://") || strings.HasPrefix(c.Address, "https://"), "/address", "must be an http or https URL")
	bad.check(c.Capacity > 0, "/capacity", "must be positive")
	bad.check(c.State == "" || c.State.Valid(), "/state", "is not a cell state")
	bad.check(c.Locality == "" || labelForm.MatchString(c.Locality), "/locality", "must match "+labelForm.String())
	bad.check(c.Tier == "" || labelForm.MatchString(c.Tier), "/tier", "must match "+labelForm.String())
	return bad.err("cell")
}

// Validate reports what is wrong with a tenant as it is asked for.
func (t NewTenant) Validate() error {
	var bad fieldErrors
	bad.check(slugForm.MatchString(t.Slug), "/slug", "must match "+slugForm.String())
	bad.check(!slices.Contains(reservedSlugs, t.Slug), "/slug", "is reserved")
	bad.check(len(t.Name) <= 200, "/name", "must be at most 200 bytes")
	bad.check(t.Locality == "" || labelForm.MatchString(t.Locality), "/locality", "must match "+labelForm.String())
	bad.check(t.Tier == "" || labelForm.MatchString(t.Tier), "/tier", "must match "+labelForm.String())
	bad.check(t.Cell == "" || cellForm.MatchString(string(t.Cell)), "/cell", "must match "+cellForm.String())
	bad.hosts(t.Hosts)
	return bad.err("tenant")
}

// Validate reports what is wrong with a change.
func (c Change) Validate() error {
	var bad fieldErrors
	bad.check(c.Name == nil || len(*c.Name) <= 200, "/name", "must be at most 200 bytes")
	if c.Hosts != nil {
		bad.hosts(*c.Hosts)
	}
	return bad.err("change")
}

// Validate reports what is wrong with a claim that a caller takes.
func (c Claim) Validate() error {
	var bad fieldErrors
	bad.check(kindForm.MatchString(c.Kind), "/kind", "must match "+kindForm.String())
	bad.check(c.Kind != "slug" && c.Kind != "host", "/kind", "is taken with the tenant itself")
	bad.check(len(c.Name) > 0 && len(c.Name) <= 255, "/name", "must be 1 to 255 bytes")
	bad.check(c.Tenant > 0, "/tenant", "must be positive")
	return bad.err("claim")
}

type fieldErrors []problem.Field

func (f *fieldErrors) check(ok bool, pointer, detail string) {
	if !ok {
		*f = append(*f, problem.Field{Pointer: pointer, Detail: detail})
	}
}

func (f *fieldErrors) hosts(hosts []string) {
	f.check(len(hosts) <= 20, "/hosts", "must be at most 20")
	for i, h := range hosts {
		f.check(len(h) <= 253 && hostForm.MatchString(h), "/hosts/"+strconv.Itoa(i), "must be a lower-case host name with a dot")
		f.check(!slices.Contains(hosts[:i], h), "/hosts/"+strconv.Itoa(i), "is there twice")
	}
}

func (f fieldErrors) err(what string) error {
	if len(f) == 0 {
		return nil
	}
	e := problem.New(problem.Invalid, "%s: %s %s", what, strings.TrimPrefix(f[0].Pointer, "/"), f[0].Detail)
	e.Fields = f
	return e
}

// ChooseCell is the placement policy: of the cells that take tenants, are
// healthy, satisfy the locality and the tier (an empty wish accepts any) and
// have room, the one with the least share of its capacity in use; ties go to
// the lower id, so that the choice is a pure function of the record.
func ChooseCell(t NewTenant, cells []Cell) (CellID, error) {
	if t.Cell != "" {
		return chooseNamed(t, cells)
	}
	best := -1
	for i, c := range cells {
		if !c.State.TakesTenants() || !c.Healthy || !c.fits(t) || c.Tenants >= c.Capacity {
			continue
		}
		if best < 0 || less(c, cells[best]) {
			best = i
		}
	}
	if best < 0 {
		return "", problem.New(problem.Conflict, "no ready cell with room for locality %q, tier %q", t.Locality, t.Tier)
	}
	return cells[best].ID, nil
}

// chooseNamed checks a cell that was asked for by name. A quarantine cell takes
// tenants only this way.
func chooseNamed(t NewTenant, cells []Cell) (CellID, error) {
	i := slices.IndexFunc(cells, func(c Cell) bool { return c.ID == t.Cell })
	switch {
	case i < 0 || cells[i].State == Retired:
		return "", problem.New(problem.NotFound, "no cell %q", t.Cell)
	case !cells[i].State.TakesTenants() && cells[i].State != Quarantine:
		return "", problem.New(problem.Conflict, "cell %s is %s", t.Cell, cells[i].State)
	case !cells[i].fits(t):
		return "", problem.New(problem.Conflict, "cell %s is of locality %q, tier %q", t.Cell, cells[i].Locality, cells[i].Tier)
	case cells[i].Tenants >= cells[i].Capacity:
		return "", problem.New(problem.Conflict, "cell %s is full", t.Cell)
	}
	return t.Cell, nil
}

// fits reports whether c satisfies the tenant's locality and tier.
func (c Cell) fits(t NewTenant) bool {
	return (t.Locality == "" || t.Locality == c.Locality) && (t.Tier == "" || t.Tier == c.Tier)
}

// less compares relative load by cross-multiplication, so that no rounding can
// make two cells swap.
func less(a, b Cell) bool {
	l, r := a.Tenants*b.Capacity, b.Tenants*a.Capacity
	if l != r {
		return l < r
	}
	return a.ID < b.ID
}

type actorKey struct{}

// WithActor says who acts, for the audit line.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor is who acts, "unknown" where nobody said.
func Actor(ctx context.Context) string {
	if a, ok := ctx.Value(actorKey{}).(string); ok && a != "" {
		return a
	}
	return "unknown"
}
