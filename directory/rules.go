package directory

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	slugForm   = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	cellForm   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	labelForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	hostForm   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	routerForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)
	kindForm   = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,30}$`)
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
	bad.address("/address", c.Address)
	bad.check(len(c.Admin) <= 255 && plain(c.Admin), "/admin", "must be at most 255 bytes of printable text")
	bad.check(len(c.Incarnation) <= 100 && plain(c.Incarnation), "/incarnation", "must be at most 100 bytes of printable text")
	bad.check(c.Capacity > 0 && c.Capacity <= 1e9, "/capacity", "must be 1 to 1000000000")
	bad.check(c.State == "" || c.State.Valid() && c.State != Retired, "/state", "is not a state that a cell starts in")
	bad.check(c.Locality == "" || labelForm.MatchString(c.Locality), "/locality", "must match "+labelForm.String())
	bad.check(c.Tier == "" || labelForm.MatchString(c.Tier), "/tier", "must match "+labelForm.String())
	return bad.err("cell")
}

// Validate reports what is wrong with a tenant as it is asked for.
func (t NewTenant) Validate() error {
	var bad fieldErrors
	bad.check(slugForm.MatchString(t.Slug), "/slug", "must match "+slugForm.String())
	bad.check(!slices.Contains(reservedSlugs, t.Slug), "/slug", "is reserved")
	// As a label of a host such a one stands for other letters (RFC 5891): browsers show xn--pple-43d as a twin of apple.
	bad.check(len(t.Slug) < 4 || t.Slug[2:4] != "--", "/slug", "must not have hyphens in both the third and the fourth place")
	bad.check(len(t.Name) <= 200 && plain(t.Name), "/name", isName)
	bad.check(t.Locality == "" || labelForm.MatchString(t.Locality), "/locality", "must match "+labelForm.String())
	bad.check(t.Tier == "" || labelForm.MatchString(t.Tier), "/tier", "must match "+labelForm.String())
	bad.check(t.Cell == "" || cellForm.MatchString(string(t.Cell)), "/cell", "must match "+cellForm.String())
	bad.apart(t.Group, t.PauseBudget)
	bad.hosts(t.Hosts)
	return bad.err("tenant")
}

// Validate reports what is wrong with a change.
func (c Change) Validate() error {
	var bad fieldErrors
	bad.check(c.Name == nil || len(*c.Name) <= 200 && plain(*c.Name), "/name", isName)
	bad.apart(valueOf(c.Group), valueOf(c.PauseBudget))
	bad.hosts(valueOf(c.Hosts))
	return bad.err("change")
}

// Validate reports what is wrong with a claim that a caller takes.
func (c Claim) Validate() error {
	var bad fieldErrors
	bad.check(kindForm.MatchString(c.Kind), "/kind", "must match "+kindForm.String())
	bad.check(c.Kind != "slug" && c.Kind != "host", "/kind", "is taken with the tenant itself")
	bad.check(len(c.Name) > 0 && len(c.Name) <= 255 && plain(c.Name), "/name", "must be 1 to 255 bytes of printable text")
	bad.check(c.Tenant > 0, "/tenant", "must be positive")
	return bad.err("claim")
}

// Validate reports what is wrong with a placement as a caller asks for it.
func (p Placement) Validate() error {
	var bad fieldErrors
	bad.check(p.State == Active || p.State == Cutover, "/state", "must be active or cutover")
	bad.check(p.Epoch > 1, "/epoch", "must be above 1: the first epoch is the creation's")
	bad.check(cellForm.MatchString(string(p.Cell)), "/cell", "must match "+cellForm.String())
	return bad.err("placement")
}

// CheckLimit reports a page size outside 1 to 1000.
func CheckLimit(limit int) error {
	var bad fieldErrors
	bad.check(limit >= 1 && limit <= 1000, "query/limit", "must be 1 to 1000")
	return bad.err("page")
}

// CheckRouter reports a name that cannot be a router's.
func CheckRouter(id string) error {
	var bad fieldErrors
	bad.check(routerForm.MatchString(id), "query/router", "must match "+routerForm.String())
	return bad.err("router")
}

const isName = "must be at most 200 bytes of printable text"

// plain reports whether s can be kept and shown: UTF-8 without control characters.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

type fieldErrors []problem.Field

func (f *fieldErrors) check(ok bool, pointer, detail string) {
	if !ok {
		*f = append(*f, problem.Field{Pointer: pointer, Detail: detail})
	}
}

// longestBudget is of a tenant's pauses within a day.
const longestBudget = 24 * time.Hour

func (f *fieldErrors) apart(group string, budget time.Duration) {
	f.check(group == "" || labelForm.MatchString(group), "/group", "must match "+labelForm.String())
	f.check(budget >= 0 && budget <= longestBudget, "/pause_budget", "must be 0 to 24 hours, in nanoseconds")
}

// valueOf is what p points to, and the zero value where there is nothing.
func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
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
	e := problem.New(problem.Invalid, "%s: %s %s", what, strings.TrimLeft(f[0].Pointer, "/"), f[0].Detail)
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
	best, silent := -1, 0
	for i, c := range cells {
		if !c.State.TakesTenants() || !c.fits(t) || c.Tenants >= c.Capacity {
			continue
		}
		if !c.Healthy {
			silent++
			continue
		}
		if best < 0 || less(c, cells[best]) {
			best = i
		}
	}
	if best >= 0 {
		return cells[best].ID, nil
	}
	why := fmt.Sprintf("no ready cell with room for locality %q, tier %q", t.Locality, t.Tier)
	if t.Group != "" {
		why += fmt.Sprintf(" and nobody of group %q", t.Group)
	}
	if silent > 0 {
		why += fmt.Sprintf(": %d that would do is not heard of", silent)
	}
	return "", problem.New(problem.Conflict, "%s", why)
}

// Apart is the cells that the policy may choose from for t: without those in
// taken, which have a tenant of its group, unless it is asked for by name.
func (t NewTenant) Apart(cells []Cell, taken []CellID) []Cell {
	if t.Cell != "" || t.Group == "" {
		return cells
	}
	return slices.DeleteFunc(cells, func(c Cell) bool { return slices.Contains(taken, c.ID) })
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

// MayOwn reports, as a Conflict, that c is in a state in which no cell owns a tenant.
func (c Cell) MayOwn() error {
	if c.State == Drained || c.State == Retired {
		return problem.New(problem.Conflict, "cell %s is %s", c.ID, c.State)
	}
	return nil
}

// Route is what a router must know of c.
func (c Cell) Route() CellRoute {
	return CellRoute{ID: c.ID, Address: c.Address, State: c.State, Unheard: c.Unheard}
}

// Route is what a router must know of t.
func (t Tenant) Route() Route {
	return Route{Placement: t.Placement, Slug: t.Slug, Hosts: slices.Clone(t.Hosts)}
}

// Shown is the state that the world sees of a placement that its owner holds in
// state owned (Active, Cutover or Deleted) while it is or is not suspended.
func Shown(owned State, suspended bool) State {
	if suspended && owned != Deleted {
		return Suspended
	}
	return owned
}

// With is the tenant with what c names. The state is not touched: see Shown.
func (t Tenant) With(c Change) (Tenant, error) {
	if err := c.Validate(); err != nil {
		return Tenant{}, err
	}
	if t.Placement.State == Deleted {
		return Tenant{}, problem.New(problem.Conflict, "tenant %d is deleted", t.ID)
	}
	if c.Pinned != nil {
		t.Pinned = *c.Pinned
	}
	if c.Name != nil {
		t.Name = *c.Name
	}
	if c.Group != nil {
		t.Group = *c.Group
	}
	if c.PauseBudget != nil {
		t.PauseBudget = *c.PauseBudget
	}
	if c.Hosts != nil {
		t.Hosts = slices.Sorted(slices.Values(*c.Hosts))
	}
	return t, nil
}

// Register is the cell that the record keeps when c registers: stored is what it
// holds, nil where the cell is new. Tenants, health and time are the record's, and so is
// the address of a cell that says what it said before.
func (c Cell) Register(stored *Cell) (Cell, error) {
	if err := c.Validate(); err != nil {
		return Cell{}, err
	}
	c.Announced, c.Unheard = "", false
	if c.Incarnation != "" { // else it is somebody else who knows of the cell
		c.Announced = c.Address
	}
	if stored == nil {
		if c.State == "" {
			c.State = Ready
		}
		return c, nil
	}
	if stored.Incarnation != "" {
		if err := stored.MustBe(c.Incarnation); err != nil {
			return Cell{}, err
		}
	}
	if c.Announced != "" && c.Announced == stored.Announced {
		c.Address = stored.Address
	}
	c.State = stored.State
	return c, nil
}

// MustBe reports, as a Conflict, that whoever speaks for the cell has another
// database than the one that it is registered with.
func (c Cell) MustBe(incarnation string) error {
	if c.Incarnation == incarnation {
		return nil
	}
	return problem.New(problem.Conflict, "cell %s is registered with another incarnation", c.ID)
}

// MayBeat reports why who says to be alive as the cell has to register first.
func (c Cell) MayBeat(incarnation string) error {
	if c.Unheard {
		return problem.New(problem.NotFound, "cell %s has to register again: the directory's database is another one than before", c.ID)
	}
	return c.MustBe(incarnation)
}

// Enter is the cell that the record keeps when c goes to state to.
func (c Cell) Enter(to CellState) (Cell, error) {
	switch {
	case !to.Valid():
		return Cell{}, problem.New(problem.Invalid, "%q is not a cell state", to)
	case c.State == to:
		return c, nil
	case !c.State.CanBecome(to):
		return Cell{}, problem.New(problem.Conflict, "cell %s is %s and cannot become %s", c.ID, c.State, to)
	case (to == Drained || to == Retired) && c.Tenants > 0:
		return Cell{}, problem.New(problem.Conflict, "cell %s owns %d tenants", c.ID, c.Tenants)
	}
	c.State = to
	return c, nil
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
