package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Everything is the snapshot in which nothing is visible: the changes since it
// are all that were captured. After a generation ("0/" where that is 0) it is said of a
// copy that has what a round of that generation has brought.
const Everything = "3:3:"

// A Source sends a tenant's rows. Its pool's role reads past row security; what
// it reads is the tenant's because each statement says so.
type Source struct {
	pool   *pgxpool.Pool
	pace   *Pace
	copies *semaphore.Weighted // whole copies under way: rounds, the last ones above all, need connections besides
	sizing *semaphore.Weighted // tenants that are measured
	asking *semaphore.Weighted // those of them that are for a rehearsal
	tables tableCache
	few    int // keys up to which a round is one of few
	held   int // bytes of keys up to which a table is sent as one
}

// NewSource makes a Source that sends at pace.
func NewSource(pool *pgxpool.Pool, pace *Pace) *Source {
	return &Source{
		pool: pool, pace: pace, copies: semaphore.NewWeighted(turnsMost),
		sizing: semaphore.NewWeighted(measuredMost), asking: semaphore.NewWeighted(measuredMost - 1), few: fewKeys, held: keysHeld,
	}
}

// copying takes a place for a whole copy outside a pause: Unavailable where there is none. Nobody
// waits for one, for who asks has a transaction open at the target.
func (s *Source) copying() (end func(), err error) {
	if !s.copies.TryAcquire(1) {
		return nil, problem.New(problem.Unavailable, "as many copies are under way out of this cell as it makes at once")
	}
	return func() { s.copies.Release(1) }, nil
}

// measuredMost is how many tenants are measured at once. That takes as long as the disk does, and the last round
// of another move needs a connection within its pause.
const measuredMost = 2

// snapshotForm is the text of a pg_snapshot, after the database's generation where
// that is not 0: transactions that a failover has lost give their numbers to others.
var snapshotForm = regexp.MustCompile(`^([0-9]+/)?([0-9]+:[0-9]+:([0-9]+(,[0-9]+)*)?)$`)

// Stream writes one round of the move to w: with since "" all rows of the tenant,
// else the rows whose keys were captured after the snapshot since and the keys
// of those that are gone. All of it is of one snapshot. Conflict where the
// tenant's fence is not armed for the move, and, with the member snapshot, where
// since means nothing here any more: see beginAnew.
func (s *Source) Stream(ctx context.Context, w io.Writer, move directory.MoveID, tenant directory.TenantID, since string) (Totals, error) {
	form := snapshotForm.FindStringSubmatch(since)
	if since != "" && form == nil {
		return Totals{}, problem.New(problem.Invalid, "since is not a snapshot")
	}
	var total Totals
	head := Header{Move: string(move), Tenant: int64(tenant), Since: since}
	var unnoted bool
	var generation string
	var dirty fewNoted
	first := func(b *pgx.Batch) {
		b.Queue(armed, tenant, string(move)).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&generation, &head.Snapshot, &head.Frozen, &unnoted)
			if err == pgx.ErrNoRows {
				return problem.New(problem.Conflict, "tenant %d is not armed for move %s", tenant, move)
			}
			return err
		})
		b.Queue(unhurried)
		if form != nil {
			dirty.queue(b, tenant, form[2], s.few)
		}
	}
	var out *frameWriter
	err := pg.InTxAfter(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, first, func(tx pgx.Tx) error {
		head.Snapshot = generation + head.Snapshot
		switch {
		case since == Everything && unnoted, since != "" && since != Everything && strings.TrimPrefix(form[1], "0/") != generation:
			return problem.New(problem.Conflict, "the source has lost what it knew of the changes since %s", since).With("snapshot", "void")
		case since != "":
			since = form[2]
		}
		if head.Frozen {
			list, err := s.tables.get(ctx, tx, false)
			if err == nil {
				head.Migrations, err = applied(ctx, tx, list)
			}
			if err != nil {
				return err
			}
		}
		take, end := pacing(ctx, s.pace, head.Frozen)
		defer end()
		out = newFrameWriter(w, take)
		if err := out.json(frameRound, head); err != nil {
			return err
		}
		list, keys, err := s.changed(ctx, tx, tenant, since, !head.Frozen, dirty)
		if err == nil {
			list, err = withGiven(ctx, tx, list)
		}
		if err != nil {
			return err
		}
		if keys != nil {
			var few []Table
			list, few = split(list, func(t Table) bool { return !t.Binary })
			if total, err = s.sendFew(ctx, tx, out, few, keys, tenant); err != nil {
				return err
			}
			if len(list) > 0 {
				if _, err := tx.Exec(ctx, manyPlans); err != nil {
					return fmt.Errorf("prepare for many keys: %w", err)
				}
			}
		}
		for _, t := range list {
			n, err := s.table(ctx, tx, out, t, tenant, since)
			if err != nil {
				return fmt.Errorf("send %s: %w", t.Label, err)
			}
			total.Tables, total.Rows, total.Keys = total.Tables+n.Tables, total.Rows+n.Rows, total.Keys+n.Keys
		}
		total.Bytes = out.bytes
		if err := asTheyWere(ctx, tx); err != nil {
			return err
		}
		if head.Frozen {
			return nil // the freeze's own commit was on disk before
		}
		_, err = tx.Exec(ctx, flushed)
		return err
	})
	s.tables.refused(err)
	if err != nil {
		return total, err
	}
	if err := out.json(frameLast, total); err != nil {
		return total, err
	}
	return total, out.w.Flush()
}

// unhurried lets a stream's session be idle for as long as a mover waits for a copy: the server has sent all of a table
// long before a reader that is busy, or a slow pace, has taken it. Where the reader is gone, the write to it fails.
const unhurried = `SELECT set_config('idle_in_transaction_session_timeout', '24h', true)`

// flushed makes the commit of a round's transaction, which has changed nothing, wait until
// the disk has whatever its snapshot has seen end. A server that was killed before
// would give the numbers of transactions that it has forgotten to others, whose notes
// rounds would then skip as seen.
const flushed = `SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'cellway', '')`

// armed checks the fence and takes the snapshot in one statement: the first of
// the transaction, so that it is the transaction's own.
const armed = `
	SELECT CASE s.generation WHEN 0 THEN '' ELSE s.generation || '/' END, pg_current_snapshot()::text, f.state = 'frozen',
	       EXISTS (SELECT FROM cell.received r WHERE r.tenant_id = f.tenant_id AND r.move_id LIKE 'void:%')
	  FROM cell.fence f, cell.serving s
	 WHERE f.tenant_id = $1 AND f.move_id = $2 AND f.capture AND f.state IN ('active', 'frozen')`

// touched lists the tables that have captured changes after a snapshot. The bound
// on xid says nothing new: it is what the index knows.
const touched = `
	SELECT DISTINCT tbl FROM cell.dirty
	 WHERE tenant_id = $1 AND xid >= pg_snapshot_xmin($2::text::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)`

// changed lists the tables to send: all, or those with captured changes. Where
// the keys of the changes are few it returns them as well. Outside the pause (fresh) it
// looks whether tables were altered: a column that was added would not be sent.
func (s *Source) changed(ctx context.Context, tx pgx.Tx, tenant directory.TenantID, since string, fresh bool, dirty fewNoted) ([]Table, map[string][]json.RawMessage, error) {
	list, err := s.tables.get(ctx, tx, fresh || since == "" || since == Everything)
	if err != nil || since == "" {
		return list, nil, err
	}
	if dirty.all() {
		list, err = s.named(ctx, tx, list, slices.Collect(maps.Keys(dirty.keys)))
		return list, dirty.keys, err
	}
	if _, err := tx.Exec(ctx, manyPlans); err != nil {
		return nil, nil, fmt.Errorf("list changed tables: %w", err)
	}
	rows, err := tx.Query(ctx, touched, tenant, since)
	if err != nil {
		return nil, nil, fmt.Errorf("list changed tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, nil, fmt.Errorf("list changed tables: %w", err)
	}
	list, err = s.named(ctx, tx, list, names)
	return list, nil, err
}

// named is the tables of list that have one of the labels of noted keys. A label that
// the catalog did not have when it was read may be a new table's; of one that it does
// not have now, the changes would be lost.
func (s *Source) named(ctx context.Context, tx pgx.Tx, list []Table, labels []string) ([]Table, error) {
	is := func(t Table) bool { return slices.Contains(labels, t.Label) }
	found, _ := split(list, is)
	if len(found) == len(labels) {
		return found, nil
	}
	list, err := s.tables.get(ctx, tx, true)
	if err != nil {
		return nil, err
	}
	if found, _ = split(list, is); len(found) == len(labels) {
		return found, nil
	}
	for _, t := range found {
		labels = slices.DeleteFunc(labels, func(label string) bool { return label == t.Label })
	}
	return nil, problem.New(problem.Conflict, "keys of %s were noted, which is no tenant table any more", labels[0])
}

// split returns the tables that are so, and the others.
func split(list []Table, so func(Table) bool) (yes, no []Table) {
	for _, t := range list {
		if so(t) {
			yes = append(yes, t)
		} else {
			no = append(no, t)
		}
	}
	return yes, no
}
