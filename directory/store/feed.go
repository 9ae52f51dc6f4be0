package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Both give what scanRoute reads. All routes join the hosts as one set: a million
// tenants must not look them up one by one. The routes of a few changes do look
// them up: they must not read a million tenants' hosts.
const (
	allRoutes = `
		SELECT t.id, t.cell, t.epoch, t.state, t.suspended, t.slug, h.names
		  FROM directory.tenants t
		  LEFT JOIN (SELECT tenant, array_agg(name ORDER BY name) AS names
		               FROM directory.claims
		              WHERE kind = 'host'
		              GROUP BY tenant) h ON h.tenant = t.id
		 WHERE t.state <> 'deleted'
		 ORDER BY t.id`
	changedRoutes = someRoutes + `
		 WHERE t.id IN (SELECT tenant FROM directory.changes WHERE version > $1)
		 ORDER BY t.id`
	oneRoute   = someRoutes + ` WHERE t.id = $1`
	someRoutes = `
		SELECT t.id, t.cell, t.epoch, t.state, t.suspended, t.slug,
		       ARRAY(SELECT name FROM directory.claims WHERE tenant = t.id AND kind = 'host' ORDER BY name)
		  FROM directory.tenants t`
)

// The same for the cells, of which there are few.
const (
	allCells = `
		SELECT id, address, state, unheard FROM directory.cells
		 WHERE state <> 'retired'
		 ORDER BY id`
	changedCells = `
		SELECT id, address, state, unheard FROM directory.cells
		 WHERE id IN (SELECT cell FROM directory.changes WHERE version > $1)
		 ORDER BY id`
	oneCell = `SELECT id, address, state, unheard FROM directory.cells WHERE id = $1`
)

// links are the changes after a version, in their order.
const links = `
	SELECT COALESCE(tenant, 0), COALESCE(cell, ''), digest FROM directory.changes
	 WHERE version > $1
	 ORDER BY version`

func scanLink(row pgx.CollectableRow) (directory.Link, error) {
	var l directory.Link
	var digest []byte
	err := row.Scan(&l.Tenant, &l.Cell, &digest)
	if err == nil && copy(l.Digest[:], digest) != len(l.Digest) {
		err = problem.New(problem.Gone, "a version was written by a release without a chain: start again from a snapshot")
	}
	return l, err
}

func scanRoute(row pgx.CollectableRow) (directory.Route, error) {
	var r directory.Route
	var owned directory.State
	var suspended bool
	err := row.Scan(&r.Tenant, &r.Cell, &r.Epoch, &owned, &suspended, &r.Slug, &r.Hosts)
	r.State = directory.Shown(owned, suspended)
	return r, err
}

func scanCellRoute(row pgx.CollectableRow) (directory.CellRoute, error) {
	var c directory.CellRoute
	err := row.Scan(&c.ID, &c.Address, &c.State, &c.Unheard)
	return c, err
}

// oneState is a transaction that sees one state of the record.
var oneState = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// readAll runs the statements that queue adds to a batch in one message, and sees one state of the record.
func (s *Store) readAll(ctx context.Context, queue func(b *pgx.Batch)) error {
	return pg.InTxAfter(ctx, s.pool, oneState, func(b *pgx.Batch) {
		queue(b)
		pg.QueueCommit(b)
	}, func(pgx.Tx) error { return nil })
}

// Snapshot implements directory.Feed.
func (s *Store) Snapshot(ctx context.Context) (u directory.Update, err error) {
	err = s.readAll(ctx, func(b *pgx.Batch) {
		b.Queue(newest).QueryRow(func(row pgx.Row) (err error) {
			u.Version, _, u.Head, err = scanNewest(row)
			return err
		})
		queueRoutes(b, &u, allCells, allRoutes)
	})
	return u, fail(ctx, "read table", err)
}

// queueRoutes reads into u what two queries, which take the same arguments, give.
func queueRoutes(b *pgx.Batch, u *directory.Update, cells, routes string, args ...any) {
	b.Queue(cells, args...).Query(func(rows pgx.Rows) (err error) {
		u.Cells, err = pgx.CollectRows(rows, scanCellRoute)
		return err
	})
	b.Queue(routes, args...).Query(func(rows pgx.Rows) (err error) {
		u.Routes, err = pgx.CollectRows(rows, scanRoute)
		return err
	})
}

// since is what changed after a version and, where the router's part is another
// than it has, that part: both of one moment. known is a version that is there for sure.
func (s *Store) since(ctx context.Context, v, known directory.Version, router string, has *directory.Report) (directory.Update, error) {
	n, err := s.news(ctx, v, known)
	switch {
	case err != nil || has == nil:
		return n.Update, err
	case n.rollout:
		return s.sinceWithPart(ctx, v, router, *has)
	}
	if p := (&directory.Part{}); !p.Is(*has) {
		n.Part = p
	}
	return n.Update, nil
}

// news is what changed after a version, and whether a roll-out runs.
type news struct {
	directory.Update
	rollout bool
}

// readTimeout bounds the reading of news, which outlives the router that asked first.
const readTimeout = 5 * time.Second

// news reads what changed after v, once for all routers that ask at the same time: one
// commit wakes them all. It holds known, which some caller has read, and may lack what
// another has only heard of.
func (s *Store) news(ctx context.Context, v, known directory.Version) (news, error) {
	c := s.reading.DoChan(fmt.Sprint(v, known), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		var n news
		err := s.readAll(ctx, func(b *pgx.Batch) { queueNews(b, v, &n) })
		return n, err
	})
	select {
	case got := <-c:
		n, _ := got.Val.(news)
		return n, got.Err
	case <-ctx.Done():
		return news{}, ctx.Err()
	}
}

// queueNews reads into n what changed after v.
func queueNews(b *pgx.Batch, v directory.Version, n *news) {
	n.Since = v
	b.Queue(newest).QueryRow(func(row pgx.Row) (err error) {
		n.Version, n.Head, err = scanNext(row, v)
		return err
	})
	b.Queue(links, int64(v)).Query(func(rows pgx.Rows) (err error) {
		n.Links, err = pgx.CollectRows(rows, scanLink)
		return err
	})
	queueRoutes(b, &n.Update, changedCells, changedRoutes, int64(v))
	b.Queue(`SELECT EXISTS (SELECT FROM directory.rollouts WHERE state = 'running')`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&n.rollout)
	})
}

// sinceWithPart is since while a roll-out runs.
func (s *Store) sinceWithPart(ctx context.Context, v directory.Version, router string, has directory.Report) (directory.Update, error) {
	var n news
	err := pg.InTxAfter(ctx, s.pool, oneState, func(b *pgx.Batch) { queueNews(b, v, &n) }, func(tx pgx.Tx) error {
		p, err := part(ctx, tx, router)
		if err == nil && !p.Is(has) {
			n.Part = p
		}
		return err
	})
	return n.Update, err
}

// newest is the newest version, with its head, and the oldest that Changes can continue from.
const newest = `SELECT version, oldest, head FROM directory.version`

func scanNewest(row pgx.Row) (now, oldest directory.Version, head directory.Head, err error) {
	var h []byte
	err = row.Scan(&now, &oldest, &h)
	copy(head[:], h)
	return now, oldest, head, err
}

// MostBehind is how many versions a router may be behind and still get changes, some
// 7 MB of them. It waits seconds for those and half a minute for a snapshot, which is
// made once for all who ask.
const MostBehind = 50_000

// scanNext reads newest: Gone where since is not on the way to it, or too far from it.
func scanNext(row pgx.Row, since directory.Version) (directory.Version, directory.Head, error) {
	now, oldest, head, err := scanNewest(row)
	if err == nil && (since < oldest || since > now || now-since > MostBehind) {
		err = gone(since)
	}
	return now, head, err
}

// Changes implements directory.Feed.
func (s *Store) Changes(ctx context.Context, router string, since directory.Version, wait time.Duration) (directory.Update, error) {
	if router != "" {
		if err := directory.CheckRouter(router); err != nil {
			return directory.Update{}, err
		}
	}
	u, err := s.changes(ctx, router, since, wait, nil)
	return u, fail(ctx, "read changes", err)
}

// Poll implements directory.Rollouts.
func (s *Store) Poll(ctx context.Context, router string, since directory.Version, wait time.Duration, has directory.Report) (directory.Update, error) {
	if err := directory.CheckRouter(router); err != nil {
		return directory.Update{}, err
	}
	u, err := s.changes(ctx, router, since, wait, &has)
	return u, fail(ctx, "read changes", err)
}

func (s *Store) changes(ctx context.Context, router string, since directory.Version, wait time.Duration, has *directory.Report) (directory.Update, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	heartbeat := time.NewTicker(directory.HeartbeatTTL / 3)
	defer heartbeat.Stop()
	for last, woken := wait <= 0, false; ; woken = false {
		// Asked for before the read: whatever commits after it wakes us.
		newer := s.hub.newer(aboutTable)
		if woken { // a tenant may be waiting for this: acknowledged it was when the wait began
			if u, err := s.since(ctx, since, since, router, has); err != nil || u.Version > since {
				return u, err
			}
		}
		now, head, other, err := s.acknowledge(ctx, router, since, has)
		if err != nil {
			return directory.Update{}, err
		}
		if now > since || other {
			return s.since(ctx, since, now, router, has)
		}
		if last {
			return directory.Update{Since: since, Version: since, Head: head}, nil
		}
		select {
		case <-newer:
			woken = true
		case <-heartbeat.C:
		case <-over.C:
			last = true // and look once more, so that a dead database is not taken for silence
		case <-s.hub.closed:
			return directory.Update{}, problem.New(problem.Unavailable, "the directory is stopping")
		case <-ctx.Done():
			return directory.Update{}, ctx.Err()
		}
	}
}

// acknowledge notes that a router is alive and serves since, unless that is newer than
// the record's version, which it returns with its head: then see lift. Of a router
// that takes part in roll-outs it notes what it has to say, and returns whether it
// should have another part.
func (s *Store) acknowledge(ctx context.Context, router string, since directory.Version, has *directory.Report) (now directory.Version, head directory.Head, other bool, err error) {
	now, head, gone := scanNext(s.pool.QueryRow(ctx, newest), since)
	switch {
	case router == "" || gone != nil && !errors.Is(gone, problem.Gone):
		return now, head, false, gone
	case since > now:
		return now, head, false, s.lift(ctx, router, since, now)
	}
	if has == nil {
		const upsert = `
			INSERT INTO directory.routers (id, acked) VALUES ($1, $2)
			    ON CONFLICT (id) DO UPDATE SET acked = EXCLUDED.acked, seen_at = now(), staged = false`
		_, err = s.pool.Exec(ctx, upsert, router, int64(since))
		return now, head, false, cmp.Or(err, gone)
	}
	const upsert = `
		  WITH heard AS (INSERT INTO directory.routers (id, acked, staged, rollout, round, requests, failed, refused)
		                 VALUES ($1, $2, true, $3, $4, $5, $6, $7)
		                     ON CONFLICT (id) DO UPDATE
		                    SET acked = EXCLUDED.acked, seen_at = now(), staged = true, rollout = EXCLUDED.rollout,
		                        round = EXCLUDED.round, requests = EXCLUDED.requests, failed = EXCLUDED.failed,
		                        refused = EXCLUDED.refused)
		SELECT COALESCE((SELECT id <> $3 OR round <> $4 FROM directory.rollouts WHERE state = 'running'), $3 <> '')`
	err = s.pool.QueryRow(ctx, upsert, router, int64(since), string(has.Rollout), has.Round, has.Requests, has.Failed, has.Refused).Scan(&other)
	return now, head, other, cmp.Or(err, gone)
}

// Watermark implements directory.Feed.
func (s *Store) Watermark(ctx context.Context) (directory.Watermark, error) {
	w, err := s.watermark(ctx)
	return w, fail(ctx, "read watermark", err)
}

func (s *Store) watermark(ctx context.Context) (directory.Watermark, error) {
	// One statement, one state: no router can be ahead of the version read.
	rows, err := s.pool.Query(ctx, `
		SELECT v.version, COALESCE(r.id, ''), COALESCE(r.acked, 0), COALESCE(r.seen_at, now()),
		       COALESCE(r.seen_at > now() - `+ttl+`, false)
		  FROM directory.version v
		  LEFT JOIN directory.routers r ON true
		 ORDER BY r.id`)
	if err != nil {
		return directory.Watermark{}, err
	}
	w := directory.Watermark{Routers: []directory.RouterStatus{}}
	var r directory.RouterStatus
	_, err = pgx.ForEachRow(rows, []any{&w.Version, &r.ID, &r.Acked, &r.SeenAt, &r.Live}, func() error {
		if r.ID != "" {
			r.SeenAt = r.SeenAt.UTC()
			w.Routers = append(w.Routers, r)
		}
		return nil
	})
	w.Watermark = w.Version
	for _, r := range w.Routers {
		if r.Live {
			w.Watermark = min(w.Watermark, r.Acked)
		}
	}
	return w, err
}
