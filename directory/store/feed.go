package store

import (
	"context"
	"strconv"
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
		SELECT id, address, state FROM directory.cells
		 WHERE state <> 'retired'
		 ORDER BY id`
	changedCells = `
		SELECT id, address, state FROM directory.cells
		 WHERE id IN (SELECT cell FROM directory.changes WHERE version > $1)
		 ORDER BY id`
	oneCell = `SELECT id, address, state FROM directory.cells WHERE id = $1`
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
	err := row.Scan(&c.ID, &c.Address, &c.State)
	return c, err
}

// Snapshot implements directory.Feed.
func (s *Store) Snapshot(ctx context.Context) (directory.Update, error) {
	u, err := s.read(ctx, func(ctx context.Context, tx pgx.Tx, u *directory.Update) (err error) {
		var oldest directory.Version
		var head []byte
		if err := tx.QueryRow(ctx, newest).Scan(&u.Version, &oldest, &head); err != nil {
			return err
		}
		copy(u.Head[:], head)
		rows, err := tx.Query(ctx, allCells)
		if err != nil {
			return err
		}
		if u.Cells, err = pgx.CollectRows(rows, scanCellRoute); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, allRoutes); err != nil {
			return err
		}
		u.Routes, err = pgx.CollectRows(rows, scanRoute)
		return err
	})
	return u, fail(ctx, "read table", err)
}

// since is what changed after a version and, where the router's part is another
// than it has, that part: both of one moment.
func (s *Store) since(ctx context.Context, v directory.Version, router string, has *directory.Report) (directory.Update, error) {
	n, err := s.news(ctx, v)
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
// commit wakes them all. It may be older than a commit that the caller has heard of.
func (s *Store) news(ctx context.Context, v directory.Version) (news, error) {
	c := s.reading.DoChan(strconv.FormatInt(int64(v), 10), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		return s.readNews(ctx, v)
	})
	select {
	case got := <-c:
		n, _ := got.Val.(news)
		return n, got.Err
	case <-ctx.Done():
		return news{}, ctx.Err()
	}
}

// readNews reads one state of the record, in one message.
func (s *Store) readNews(ctx context.Context, v directory.Version) (n news, err error) {
	var b pgx.Batch
	b.BeginTx(oneState)
	queueNews(&b, v, &n)
	pg.QueueCommit(&b)
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return n, err
	}
	defer conn.Release() // destroys a connection that is not idle
	err = conn.SendBatch(ctx, &b).Close()
	return n, err
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
	b.Queue(changedCells, int64(v)).Query(func(rows pgx.Rows) (err error) {
		n.Cells, err = pgx.CollectRows(rows, scanCellRoute)
		return err
	})
	b.Queue(changedRoutes, int64(v)).Query(func(rows pgx.Rows) (err error) {
		n.Routes, err = pgx.CollectRows(rows, scanRoute)
		return err
	})
	b.Queue(`SELECT EXISTS (SELECT FROM directory.rollouts WHERE state = 'running')`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&n.rollout)
	})
}

// sinceWithPart is since while a roll-out runs.
func (s *Store) sinceWithPart(ctx context.Context, v directory.Version, router string, has directory.Report) (directory.Update, error) {
	return s.read(ctx, func(ctx context.Context, tx pgx.Tx, u *directory.Update) error {
		var b pgx.Batch
		var n news
		queueNews(&b, v, &n)
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		*u = n.Update
		p, err := part(ctx, tx, router)
		if err == nil && !p.Is(has) {
			u.Part = p
		}
		return err
	})
}

// oneState is a transaction that sees one state of the record.
var oneState = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// read makes an Update in a transaction that sees one state of the record: the
// version and everything that it stands for.
func (s *Store) read(ctx context.Context, f func(context.Context, pgx.Tx, *directory.Update) error) (directory.Update, error) {
	var u directory.Update
	err := pgx.BeginTxFunc(ctx, s.pool, oneState, func(tx pgx.Tx) error { return f(ctx, tx, &u) })
	return u, err
}

// newest is the newest version, with its head, and the oldest that Changes can continue from.
const newest = `SELECT version, oldest, head FROM directory.version`

// scanNext reads newest: Gone where since is not on the way to it.
func scanNext(row pgx.Row, since directory.Version) (now directory.Version, head directory.Head, err error) {
	var oldest directory.Version
	var h []byte
	if err := row.Scan(&now, &oldest, &h); err != nil {
		return 0, head, err
	}
	if copy(head[:], h); since < oldest || since > now {
		return now, head, problem.New(problem.Gone, "cannot continue from version %d", since)
	}
	return now, head, nil
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
			if u, err := s.since(ctx, since, router, has); err != nil || u.Version > since {
				return u, err
			}
		}
		now, head, other, err := s.acknowledge(ctx, router, since, has)
		if err != nil {
			return directory.Update{}, err
		}
		if now > since || other {
			return s.since(ctx, since, router, has)
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

// acknowledge notes that a router is alive and serves since, unless that is not
// on the way to the record's version, which it returns with its head. Of a router
// that takes part in roll-outs it notes what it has to say, and returns whether it
// should have another part.
func (s *Store) acknowledge(ctx context.Context, router string, since directory.Version, has *directory.Report) (now directory.Version, head directory.Head, other bool, err error) {
	now, head, err = scanNext(s.pool.QueryRow(ctx, newest), since)
	if err != nil || router == "" {
		return now, head, false, err
	}
	if has == nil {
		const upsert = `
			INSERT INTO directory.routers (id, acked) VALUES ($1, $2)
			    ON CONFLICT (id) DO UPDATE SET acked = EXCLUDED.acked, seen_at = now(), staged = false`
		_, err = s.pool.Exec(ctx, upsert, router, int64(since))
		return now, head, false, err
	}
	const upsert = `
		  WITH heard AS (INSERT INTO directory.routers (id, acked, staged, rollout, round, requests, failed)
		                 VALUES ($1, $2, true, $3, $4, $5, $6)
		                     ON CONFLICT (id) DO UPDATE
		                    SET acked = EXCLUDED.acked, seen_at = now(), staged = true, rollout = EXCLUDED.rollout,
		                        round = EXCLUDED.round, requests = EXCLUDED.requests, failed = EXCLUDED.failed)
		SELECT COALESCE((SELECT id <> $3 OR round <> $4 FROM directory.rollouts WHERE state = 'running'), $3 <> '')`
	err = s.pool.QueryRow(ctx, upsert, router, int64(since), string(has.Rollout), has.Round, has.Requests, has.Failed).Scan(&other)
	return now, head, other, err
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

// Audit implements directory.Feed. Lines of mutations that commit at the same
// moment may appear out of the order of their ids: who reads at the very end of
// the list has to look a little back.
func (s *Store) Audit(ctx context.Context, subject string, after int64, limit int) ([]directory.AuditEntry, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	const page = `
		SELECT id, at, actor, action, subject, COALESCE(before::text, ''), COALESCE(after::text, '')
		  FROM directory.audit
		 WHERE id > $1 AND ($2 = '' OR subject = $2)
		 ORDER BY id
		 LIMIT $3`
	rows, err := s.pool.Query(ctx, page, after, subject, limit)
	if err != nil {
		return nil, fail(ctx, "read audit", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e directory.AuditEntry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Actor, &e.Action, &e.Subject, &e.Before, &e.After)
		e.At = e.At.UTC()
		return e, err
	})
	return lines, fail(ctx, "read audit", err)
}
