package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// StepRollout takes the roll-out that is running one step further where it is time
// for one; else stepped is false. Any number of processes may call it at any time: who has
// the row's lock sees what the one before has done. With the last step the record
// has the changes, in the same transaction.
func (s *Store) StepRollout(ctx context.Context) (r directory.Rollout, stepped bool, err error) {
	err = s.mutate(ctx, "step roll-out", func(tx pgx.Tx) (*change, error) {
		stepped = false
		old, err := oneRollout(ctx, tx, `WHERE state = 'running' FOR UPDATE`)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		drift, err := drifted(ctx, tx, old)
		if err != nil {
			return nil, err
		}
		routers, now, err := staged(ctx, tx)
		if err != nil {
			return nil, err
		}
		s.lacking.note(old, routers, now)
		if r, stepped = old.Next(routers, drift, now); !stepped {
			return nil, nil
		}
		if r.State == directory.RolloutDone {
			err := pgx.BeginFunc(ctx, tx, func(part pgx.Tx) error { return apply(ctx, part, r) })
			switch {
			case errors.Is(err, problem.Conflict) || errors.Is(err, problem.NotFound):
				r = old.Stop(directory.RolloutHalted, "the record does not take the changes: "+err.Error(), now)
			case err != nil:
				return nil, err
			}
		}
		return save(ctx, tx, old, r, "rollout.step")
	})
	return r, stepped && err == nil, err
}

// lacking is since when this process knows routers to be without their part in the roll-out that is running. The record
// does not say: whoever starts to look counts from then.
type lacking struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// note notes which routers lack it now, and tells each since when.
func (l *lacking) note(r directory.Rollout, routers []directory.Heard, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := map[string]time.Time{}
	for i, h := range routers {
		if h.Rollout == r.ID && h.Round == r.Round {
			continue
		}
		at, known := l.since[h.Router]
		if !known {
			at = now
		}
		since[h.Router], routers[i].Without = at, at
	}
	l.since = since
}

// drifted says which subject of r is not as r found it, "" where there is none. Of a
// tenant all counts that a part says of it, whichever r changes.
func drifted(ctx context.Context, db pg.DB, r directory.Rollout) (string, error) {
	now, err := stands(ctx, db, r.Changes)
	if errors.Is(err, problem.NotFound) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	for i, c := range now {
		if !r.Before[i].Is(c) {
			return c.Subject(), nil
		}
	}
	return "", nil
}

// subjects are who a list of changes changes, in the order of their locks.
func subjects(changes []directory.RolloutChange) (tenants []int64, cells []string) {
	for _, c := range changes {
		if c.Cell != "" {
			cells = append(cells, string(c.Cell))
		} else {
			tenants = append(tenants, int64(c.Tenant))
		}
	}
	slices.Sort(tenants)
	slices.Sort(cells)
	return tenants, cells
}

// stands is what the record says now of what changes would change, one for one.
func stands(ctx context.Context, db pg.DB, changes []directory.RolloutChange) ([]directory.RolloutChange, error) {
	tenants, cells := subjects(changes)
	type state struct {
		suspended bool
		hosts     []string
	}
	ofTenant, ofCell := map[directory.TenantID]state{}, map[directory.CellID]string{}
	rows, err := db.Query(ctx, `
		SELECT t.id, t.suspended, ARRAY(SELECT name FROM directory.claims WHERE tenant = t.id AND kind = 'host' ORDER BY name)
		  FROM directory.tenants t
		 WHERE t.id = ANY($1) AND t.state <> 'deleted'`, tenants)
	if err != nil {
		return nil, err
	}
	var id directory.TenantID
	var st state
	if _, err := pgx.ForEachRow(rows, []any{&id, &st.suspended, &st.hosts}, func() error { ofTenant[id] = st; return nil }); err != nil {
		return nil, err
	}
	if rows, err = db.Query(ctx, `SELECT id, address FROM directory.cells WHERE id = ANY($1) AND state <> 'retired'`, cells); err != nil {
		return nil, err
	}
	var cell directory.CellID
	var address string
	if _, err := pgx.ForEachRow(rows, []any{&cell, &address}, func() error { ofCell[cell] = address; return nil }); err != nil {
		return nil, err
	}
	out := make([]directory.RolloutChange, len(changes))
	for i, c := range changes {
		at, known := ofCell[c.Cell]
		out[i] = directory.RolloutChange{Cell: c.Cell, Address: at}
		if c.Cell == "" {
			var now state
			now, known = ofTenant[c.Tenant]
			out[i] = directory.RolloutChange{Tenant: c.Tenant, Suspended: &now.suspended, Hosts: &now.hosts}
		}
		if !known {
			return nil, problem.New(problem.NotFound, "no %s", c.Subject())
		}
	}
	return out, nil
}

// hostsAreFree refuses hosts that another tenant than the one they are for has.
func hostsAreFree(ctx context.Context, db pg.DB, changes []directory.RolloutChange) error {
	var names []string
	var tenants []int64
	for _, c := range changes {
		if c.Hosts != nil {
			for _, h := range *c.Hosts {
				names, tenants = append(names, h), append(tenants, int64(c.Tenant))
			}
		}
	}
	var name string
	err := db.QueryRow(ctx, `
		SELECT w.name FROM unnest($1::text[], $2::bigint[]) w (name, tenant)
		  JOIN directory.claims c ON c.kind = 'host' AND c.name = w.name AND c.tenant <> w.tenant
		 LIMIT 1`, names, tenants).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = problem.New(problem.Conflict, "host %q is another tenant's", name)
	}
	return err
}

// apply gives the record the changes of r, if it is as r found it: one version and
// one audit line for each, all or nothing. Everything is locked, written and read
// back before the version row is taken, which others wait for.
func apply(ctx context.Context, tx pgx.Tx, r directory.Rollout) error {
	tenants, cells := subjects(r.Changes)
	if _, err := tx.Exec(ctx, `SELECT FROM directory.tenants WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`, tenants); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT FROM directory.cells WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`, cells); err != nil {
		return err
	}
	if drift, err := drifted(ctx, tx, r); err != nil || drift != "" {
		if err == nil {
			err = problem.New(problem.Conflict, "%s has changed", drift)
		}
		return err
	}
	var batch pgx.Batch
	for i, c := range r.Changes {
		switch {
		case c.Cell != "":
			batch.Queue(`UPDATE directory.cells SET address = $2, unheard = false WHERE id = $1`, c.Cell, c.Address)
		case c.Hosts != nil:
			if err := trade(ctx, tx, c.Tenant, claimSteps(*r.Before[i].Hosts, *c.Hosts)); err != nil {
				return err
			}
		}
		if c.Suspended != nil {
			batch.Queue(`UPDATE directory.tenants SET suspended = $2 WHERE id = $1`, int64(c.Tenant), *c.Suspended)
		}
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	return publishAll(ctx, tx, r)
}

// publishAll is commit for every change of r at once.
func publishAll(ctx context.Context, tx pgx.Tx, r directory.Rollout) error {
	u, err := routesOf(ctx, tx, r)
	if err != nil {
		return err
	}
	digests := map[string]directory.Digest{}
	for _, c := range u.Cells {
		digests[cellSubject(c.ID)] = c.Digest()
	}
	for _, t := range u.Routes {
		digests[tenantSubject(t.Tenant)] = t.Digest()
	}
	var batch pgx.Batch
	for i, c := range r.Changes {
		before, err := document(r.Before[i])
		if err != nil {
			return err
		}
		after, err := document(c)
		if err != nil {
			return err
		}
		d := digests[c.Subject()]
		batch.Queue(insertAudit, r.By, "rollout.apply", c.Subject(), before, after)
		batch.Queue(publish, int64(c.Tenant), string(c.Cell), d[:])
	}
	return tx.SendBatch(ctx, &batch).Close()
}

// routesOf is what routers read of the subjects of r now.
func routesOf(ctx context.Context, tx pgx.Tx, r directory.Rollout) (directory.Update, error) {
	tenants, cells := subjects(r.Changes)
	var u directory.Update
	rows, err := tx.Query(ctx, `SELECT id, address, state, unheard FROM directory.cells WHERE id = ANY($1) ORDER BY id`, cells)
	if err != nil {
		return u, err
	}
	if u.Cells, err = pgx.CollectRows(rows, scanCellRoute); err != nil {
		return u, err
	}
	if rows, err = tx.Query(ctx, someRoutes+` WHERE t.id = ANY($1) ORDER BY t.id`, tenants); err != nil {
		return u, err
	}
	u.Routes, err = pgx.CollectRows(rows, scanRoute)
	return u, err
}

// part is a router's part in the roll-out that is running, over the record as tx
// sees it.
func part(ctx context.Context, tx pgx.Tx, router string) (*directory.Part, error) {
	r, err := oneRollout(ctx, tx, `WHERE state = 'running'`)
	if errors.Is(err, pgx.ErrNoRows) {
		return &directory.Part{}, nil
	}
	if err != nil {
		return nil, err
	}
	u, err := routesOf(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	return r.Part(router, u), nil
}
