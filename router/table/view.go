package table

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A View is the table at one version. It is never changed.
type View struct {
	version  directory.Version
	chain    directory.Head // of the directory's changes up to version; zero: not known
	source   string
	seed     maphash.Seed
	cells    []directory.CellRoute // by index; an index is never given to another cell
	segments []*segment            // newest first; a tenant in a newer one hides it in the older
	base     *base                 // below all segments; nil while tenants are few
	frozen   int                   // so many of the oldest segments are being packed, and stay as they are
	tenants  int
	replaced chan struct{}
}

// Version is the directory's version that the view shows.
func (v *View) Version() directory.Version { return v.version }

// Source is where the view came from: disk, directory or none.
func (v *View) Source() string { return v.source }

// Tenants is how many tenants the view knows, deleted ones that it remembers included.
func (v *View) Tenants() int { return v.tenants }

// Replaced is closed when the view is no longer the table's current one.
func (v *View) Replaced() <-chan struct{} { return v.replaced }

// Cells is every cell that the view knows and that is not retired.
func (v *View) Cells() []directory.CellRoute {
	var live []directory.CellRoute
	for _, c := range v.cells {
		if c.State != directory.Retired && c.Address != "" {
			live = append(live, c)
		}
	}
	return live
}

// Bytes is what the tenants' part of the view takes in memory.
func (v *View) Bytes() int {
	n := 0
	for _, s := range v.segments {
		n += s.bytes()
	}
	if v.base != nil {
		n += v.base.bytes()
	}
	return n
}

// ByID finds a tenant by its id.
func (v *View) ByID(id directory.TenantID) (Entry, bool) {
	for _, s := range v.segments {
		if r, ok := s.byID(id); ok {
			return v.entry(r), true
		}
	}
	if v.base != nil {
		if r, ok := v.base.byID(id); ok {
			return v.entry(r), true
		}
	}
	return Entry{}, false
}

// BySlug finds a tenant by its slug.
func (v *View) BySlug(slug string) (Entry, bool) {
	if strings.IndexByte(slug, '.') >= 0 {
		return Entry{}, false // a host; slugs have no dot
	}
	return v.byName(slug)
}

// ByHost finds a tenant by a host name of its own, lower case, without a port.
func (v *View) ByHost(host string) (Entry, bool) {
	if strings.IndexByte(host, '.') < 0 {
		return Entry{}, false // a slug; aliases have a dot
	}
	return v.byName(host)
}

func (v *View) byName(name string) (Entry, bool) {
	if len(v.segments) > 0 {
		h := maphash.String(v.seed, name)
		for n, s := range v.segments {
			if r, ok := s.byName(h, name); ok {
				return v.unlessHidden(n, r)
			}
		}
	}
	if v.base != nil {
		if r, ok := v.base.byName(name); ok {
			return v.unlessHidden(len(v.segments), r)
		}
	}
	return Entry{}, false
}

// unlessHidden is r's entry, unless a segment before the nth has the tenant too:
// then the tenant gave the name up.
func (v *View) unlessHidden(n int, r record) (Entry, bool) {
	if v.hiddenBefore(n, r.id()) {
		return Entry{}, false
	}
	return v.entry(r), true
}

func (v *View) hiddenBefore(n int, id directory.TenantID) bool {
	for _, newer := range v.segments[:n] {
		if _, hidden := newer.byID(id); hidden {
			return true
		}
	}
	return false
}

func (v *View) entry(r record) Entry {
	if r.cell() >= len(v.cells) || !r.stateKnown() {
		return Entry{Placement: directory.Placement{Tenant: r.id(), State: directory.Deleted}} // only in a file that lies
	}
	c := &v.cells[r.cell()]
	e := Entry{Placement: directory.Placement{Tenant: r.id(), Cell: c.ID, Epoch: r.epoch(), State: r.state()}}
	if c.State != directory.Retired {
		e.Address = c.Address
	}
	return e
}

// with is the view that follows v after u.
func (v *View) with(u directory.Update, packFrom int) (*View, error) {
	next := &View{version: u.Version, chain: u.Head, source: FromDirectory, seed: v.seed, replaced: make(chan struct{})}
	var err error
	if next.cells, err = mergeCells(v.cells, u); err != nil {
		return nil, err
	}
	routes := v.neverBack(u.Routes)
	index := cellIndex(next.cells)
	if u.Since == 0 && len(routes) >= packFrom {
		next.base, err = packRoutes(routes, index)
		next.tenants = len(routes)
		return next, err
	}
	s, err := newSegment(v.seed, routes, index)
	if err != nil {
		return nil, err
	}
	if u.Since == 0 {
		next.segments = []*segment{s}
		next.tenants = s.tenants
		return next, nil
	}
	next.base, next.frozen = v.base, v.frozen
	loose := len(v.segments) - v.frozen
	if next.segments, err = push(v.seed, s, v.segments[:loose]); err != nil {
		return nil, err
	}
	next.segments = append(next.segments, v.segments[loose:]...)
	next.tenants = v.tenants
	for r := range s.each {
		if _, known := v.ByID(r.id()); !known {
			next.tenants++
		}
	}
	return next, nil
}

// neverBack is routes with the placements that are known where theirs are older. Whether
// the tenant is suspended or deleted is the newer word all the same: of a record that was
// restored, or lost a move, what is decided from then on has to reach who knows better
// where the tenant is.
func (v *View) neverBack(routes []directory.Route) []directory.Route {
	out, copied := routes, false
	for i := range routes {
		known, ok := v.ByID(routes[i].Tenant)
		if !ok || known.Epoch <= routes[i].Epoch {
			continue
		}
		if !copied {
			out, copied = slices.Clone(routes), true
		}
		out[i].Placement = known.Placement
		switch said := routes[i].State; {
		case said == directory.Suspended || said == directory.Deleted:
			out[i].State = said
		case known.State == directory.Suspended:
			out[i].State = directory.Active
		}
	}
	return out
}

// mergeCells is cells with those of u changed or added. Indexes stay, because
// the segments hold them. A cell that is Unheard stays where it is known to be. A cell that only a route names gets an index too; one
// that a snapshot does not name is retired.
func mergeCells(cells []directory.CellRoute, u directory.Update) ([]directory.CellRoute, error) {
	index := cellIndex(cells)
	out := cells
	changed := false
	set := func(c directory.CellRoute, onlyNew bool) {
		i, known := index[c.ID]
		if known && (onlyNew || out[i] == c) {
			return
		}
		if !changed {
			out, changed = slices.Clone(cells), true
		}
		if known {
			out[i] = c
			return
		}
		index[c.ID] = len(out)
		out = append(out, c)
	}
	if u.Since == 0 {
		for _, c := range cells {
			set(directory.CellRoute{ID: c.ID, State: directory.Retired}, false)
		}
	}
	for _, c := range u.Cells {
		if i, known := index[c.ID]; c.Unheard && known && i < len(cells) && cells[i].Address != "" {
			c.Address = cells[i].Address // the record may have the cell's address from long ago
		}
		c.Unheard = false
		set(c, false)
	}
	for _, r := range u.Routes {
		set(directory.CellRoute{ID: r.Cell}, true)
	}
	if len(out) > maxCells {
		return nil, problem.New(problem.Invalid, "more than %d cells", maxCells)
	}
	for _, c := range out {
		if len(c.ID) > math.MaxUint8 || len(c.State) > math.MaxUint8 || len(c.Address) > math.MaxUint16 {
			return nil, problem.New(problem.Invalid, "cell with an id, state or address that is too long")
		}
	}
	return out, nil
}

func cellIndex(cells []directory.CellRoute) map[directory.CellID]int {
	index := make(map[directory.CellID]int, len(cells))
	for i, c := range cells {
		index[c.ID] = i
	}
	return index
}
