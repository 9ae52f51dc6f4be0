package directorytest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A router is what is known of one; while it waits in Changes it is alive.
type router struct {
	acked   directory.Version
	seen    time.Time
	waiting int
}

// Snapshot implements directory.Feed.
func (m *Memory) Snapshot(ctx context.Context) (directory.Update, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Update{}, err
	}
	defer m.mu.Unlock()
	u := directory.Update{Version: m.version(), Head: m.head(m.version())}
	for _, c := range m.listCells() {
		u.Cells = append(u.Cells, c.Route())
	}
	for _, r := range m.tenants {
		if r.owned != directory.Deleted {
			u.Routes = append(u.Routes, r.Route())
		}
	}
	sortRoutes(u.Routes)
	return u, nil
}

// Changes implements directory.Feed.
func (m *Memory) Changes(ctx context.Context, id string, since directory.Version, wait time.Duration) (directory.Update, error) {
	if id != "" {
		if err := directory.CheckRouter(id); err != nil {
			return directory.Update{}, err
		}
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	if err := m.lock(ctx); err != nil {
		return directory.Update{}, err
	}
	defer m.mu.Unlock()
	gone := problem.New(problem.Gone, "cannot continue from version %d", since)
	if id != "" && since > m.version() {
		return directory.Update{}, m.lift(ctx, id, since)
	}
	if since < 0 || since > m.version() {
		return directory.Update{}, gone
	}
	if id != "" {
		defer m.acknowledge(id, since)()
	}
	if since < m.oldest || m.Keep > 0 && since < m.version()-directory.Version(m.Keep) {
		return directory.Update{}, gone
	}
	if err := m.await(ctx, since, over.C); err != nil {
		return directory.Update{}, err
	}
	return m.since(since), nil
}

// lift has the version go on above one that a router serves.
func (m *Memory) lift(ctx context.Context, id string, since directory.Version) error {
	to, lifts := directory.LiftedBy(since, m.version())
	if !lifts || len(m.tenants) == 0 || m.Now().Sub(m.home) >= directory.LiftWithin || !m.lifted.IsZero() && m.Now().Sub(m.lifted) < directory.LiftPause {
		return problem.New(problem.Gone, "cannot continue from version %d", since)
	}
	before := m.version()
	m.oldest, m.lifted = to, m.Now()
	m.log = append(m.log, make([]logged, to-before)...)
	m.log[to-1].head = newGenesis()
	m.note(ctx, "table.lift", "table", map[string]any{"version": before}, map[string]any{"version": to, "router": id, "serves": since})
	m.wake()
	return problem.Wrap(problem.Gone, directory.ErrLifted, "start again from a snapshot")
}

// await gives the lock up until there is a version after since or the wait is over.
func (m *Memory) await(ctx context.Context, since directory.Version, over <-chan time.Time) error {
	for m.version() == since {
		newer := m.newer
		m.mu.Unlock()
		select {
		case <-newer:
			m.mu.Lock()
		case <-over:
			m.mu.Lock()
			return nil
		case <-ctx.Done():
			m.mu.Lock()
			return ctx.Err()
		}
	}
	return nil
}

// acknowledge records that a router serves version; it is alive until, and
// heard of last when, the returned function is called.
func (m *Memory) acknowledge(id string, version directory.Version) (done func()) {
	r := m.routers[id]
	if r == nil {
		r = &router{}
		m.routers[id] = r
	}
	r.acked, r.seen = version, m.Now().UTC()
	r.waiting++
	return func() {
		r.waiting--
		r.seen = m.Now().UTC()
	}
}

// since is what changed after a version, each subject once and as it is now.
func (m *Memory) since(v directory.Version) directory.Update {
	u := directory.Update{Since: v, Version: m.version(), Head: m.head(m.version())}
	done := map[entry]bool{}
	for _, l := range m.log[v:] {
		e := l.entry
		u.Links = append(u.Links, directory.Link{Tenant: e.tenant, Cell: e.cell, Digest: l.digest})
		switch {
		case done[e]:
		case e.tenant != 0:
			u.Routes = append(u.Routes, m.tenants[e.tenant].Route())
		default:
			u.Cells = append(u.Cells, m.cells[e.cell].Route())
		}
		done[e] = true
	}
	slices.SortFunc(u.Cells, func(a, b directory.CellRoute) int { return cmp.Compare(a.ID, b.ID) })
	sortRoutes(u.Routes)
	return u
}

// Watermark implements directory.Feed.
func (m *Memory) Watermark(ctx context.Context) (directory.Watermark, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Watermark{}, err
	}
	defer m.mu.Unlock()
	w := directory.Watermark{Version: m.version(), Watermark: m.version(), Routers: []directory.RouterStatus{}}
	for id, r := range m.routers {
		live := r.waiting > 0 || m.Now().Sub(r.seen) < directory.HeartbeatTTL
		w.Routers = append(w.Routers, directory.RouterStatus{ID: id, Acked: r.acked, SeenAt: r.seen, Live: live})
		if live {
			w.Watermark = min(w.Watermark, r.acked)
		}
	}
	slices.SortFunc(w.Routers, func(a, b directory.RouterStatus) int { return cmp.Compare(a.ID, b.ID) })
	return w, nil
}

// Audit implements directory.Feed.
func (m *Memory) Audit(ctx context.Context, subject string, after int64, limit int) ([]directory.AuditEntry, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	page := []directory.AuditEntry{}
	for _, e := range m.audit {
		if e.ID > after && (subject == "" || subject == e.Subject) && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

// NewestAudit implements directory.Feed.
func (m *Memory) NewestAudit(ctx context.Context, subject string, before int64, limit int) ([]directory.AuditEntry, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	page := []directory.AuditEntry{}
	for _, e := range slices.Backward(m.audit) {
		if (before == 0 || e.ID < before) && (subject == "" || subject == e.Subject) && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

func sortRoutes(routes []directory.Route) {
	slices.SortFunc(routes, func(a, b directory.Route) int { return cmp.Compare(a.Tenant, b.Tenant) })
}
