package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// A Target receives a tenant's rows. Its pool's role reads past row security and
// may switch off triggers and foreign keys for its own session; the guard
// triggers, which nobody switches off, still keep it to the one tenant that the
// fence awaits.
type Target struct {
	pool     *pgxpool.Pool
	pace     *Pace
	tables   tableCache
	arrivals sync.Map // directory.MoveID to *arrival: the rounds that are under way, but for the last ones
}

// NewTarget makes a Target that receives at pace.
func NewTarget(pool *pgxpool.Pool, pace *Pace) *Target { return &Target{pool: pool, pace: pace} }

// A Step names the move that acts, the tenant and the epoch at which the fence
// awaits it. What does not fit the fence is a Conflict and changes nothing.
type Step struct {
	Move   directory.MoveID   `json:"move"`
	Tenant directory.TenantID `json:"tenant"`
	Epoch  directory.Epoch    `json:"epoch"`
	Undo   bool               `json:"-"` // it brings a tenant back
}

// Received is what the target has of a move: its rows equal the source's at Snapshot.
type Received struct {
	Round    int           `json:"round"`    // of the move; 0 is the copy, -1 is nothing yet
	Snapshot string        `json:"snapshot"` // "" where nothing was received
	Final    bool          `json:"final"`    // taken after the freeze: nothing will follow
	Totals   Totals        `json:"totals"`   // of the last round only
	Took     time.Duration `json:"took"`     // to apply the last round
}

// Received tells what has been recorded, so that a mover can go on from there.
func (t *Target) Received(ctx context.Context, s Step) (Received, error) {
	return received(ctx, t.pool, s)
}

const receivedRow = `
	SELECT round, snapshot, final FROM cell.received WHERE tenant_id = $1 AND move_id = $2`

func received(ctx context.Context, db pg.DB, s Step) (Received, error) {
	return scanReceived(db.QueryRow(ctx, receivedRow, s.Tenant, string(s.Move)))
}

func scanReceived(row pgx.Row) (Received, error) {
	r := Received{Round: -1}
	err := row.Scan(&r.Round, &r.Snapshot, &r.Final)
	if err != nil && err != pgx.ErrNoRows {
		return r, fmt.Errorf("read what was received: %w", err)
	}
	return r, nil
}

// Apply takes one round from stream and commits it whole or not at all, together
// with the record of it: the target goes from one snapshot of the source to the
// next, so what holds at the source holds here at every commit. Every table is
// hashed as it was stored and compared with the source's hash before the commit.
// A round that was applied before, or a final one, is not applied again; a final one is
// taken only of a tenant that is frozen at the source, while nobody migrates this database, and where
// both cells have the same migrations.
func (t *Target) Apply(ctx context.Context, s Step, final bool, stream io.Reader) (Received, error) {
	began := time.Now()
	var have, out Received
	settled, migrations := true, ""
	first := func(b *pgx.Batch) {
		b.Queue(settings(final))
		if final {
			b.Queue(noneMigrates, pg.MigrateLock).QueryRow(func(row pgx.Row) error { return row.Scan(&settled) })
		}
		b.Queue(enterRow, s.Tenant, string(s.Move), s.Epoch, []string{"incoming"})
		b.Queue(receivedRow, s.Tenant, string(s.Move)).QueryRow(func(row pgx.Row) (err error) {
			have, err = scanReceived(row)
			return err
		})
	}
	err := pg.InTxAfter(ctx, t.pool, pgx.TxOptions{}, first, func(tx pgx.Tx) error {
		if out = have; have.Final {
			return nil
		}
		if !settled {
			return errMigrates
		}
		if final { // before the pause: until this transaction ends nobody migrates
			list, err := t.tables.get(ctx, tx, false)
			if err != nil {
				return err
			}
			if migrations, err = applied(ctx, tx, list); err != nil {
				return err
			}
		}
		take, end := pacing(ctx, t.pace, final)
		defer end()
		if have.Snapshot == "" { // before the stream is read: only then is the source asked for a copy, and no transaction is open there meanwhile
			if err := t.clear(ctx, tx, s.Tenant); err != nil {
				return err
			}
		}
		in := newFrameReader(stream, take)
		if !final { // in a pause nobody asks
			came, end := t.arrives(s.Move)
			defer end()
			in.came = came
		}
		var head Header
		if err := in.expect(frameRound, &head); err != nil {
			return err
		}
		if head.Move != string(s.Move) || head.Tenant != int64(s.Tenant) || head.Since != have.Snapshot {
			return problem.New(problem.Conflict, "the stream continues snapshot %q of move %s, the target has %q", head.Since, head.Move, have.Snapshot)
		}
		if final {
			if !head.Frozen {
				return problem.New(problem.Unavailable, "tenant %d may still change at the source", s.Tenant)
			}
			began = time.Now() // until then it waited for the freeze
			if err := sameMigrations(head.Migrations, migrations); err != nil {
				return err
			}
		}
		total, err := t.apply(ctx, tx, in, s, head.Since)
		if err != nil {
			return err
		}
		out = Received{Round: have.Round + 1, Snapshot: head.Snapshot, Final: final, Totals: total}
		return record(ctx, tx, s, have, out)
	})
	out.Took = time.Since(began)
	t.tables.refused(err)
	if pg.Code(err) == notThisMove {
		err = s.entered(err)
	}
	return out, err
}

// settings sets the transaction of a round up: foreign keys and the application's
// triggers were checked at the source, and the order of tables would break them here.
// Only a final round has to survive a crash: an earlier one is applied again.
func settings(final bool) string {
	if final {
		return `SELECT set_config('session_replication_role', 'replica', true), set_config('synchronous_commit', 'on', true)`
	}
	// The source may look for the changed keys for minutes before it sends the first. What
	// was planned for the tenants of yesterday may read all of a table that has grown since.
	return `
		SELECT set_config('session_replication_role', 'replica', true), set_config('synchronous_commit', 'off', true),
		       set_config('idle_in_transaction_session_timeout', '10min', true), set_config('plan_cache_mode', 'force_custom_plan', true)`
}

const enterRow = `SELECT cell.enter_move($1, $2, $3, $4)`

// enterMove opens the tenant to this transaction if the fence is in one of the
// states and belongs to the move, and keeps the fence's row locked: of two movers
// that act at once the later one waits, and finds what the first one left.
func enterMove(ctx context.Context, tx pgx.Tx, s Step, states ...string) error {
	_, err := tx.Exec(ctx, enterRow, s.Tenant, string(s.Move), s.Epoch, states)
	return s.entered(err)
}

// entered is what the answer to enterRow means.
func (s Step) entered(err error) error {
	if pg.Code(err) == notThisMove {
		return problem.Wrap(problem.Conflict, err, fmt.Sprintf("the fence of tenant %d does not await move %s at epoch %d", s.Tenant, s.Move, s.Epoch))
	}
	if err != nil {
		return fmt.Errorf("enter the move: %w", err)
	}
	return nil
}

// notThisMove is cell.enter_move's SQLSTATE.
const notThisMove = "CF004"

// record writes what was received, if it still continues what was there.
func record(ctx context.Context, tx pgx.Tx, s Step, before, now Received) error {
	tag, err := tx.Exec(ctx, recordRow, s.Tenant, string(s.Move), now.Round, now.Snapshot, now.Final, before.Round)
	if err != nil {
		return fmt.Errorf("record round: %w", err)
	}
	if tag.RowsAffected() != 1 {
		return problem.New(problem.Conflict, "another mover has applied round %d", now.Round)
	}
	return nil
}

const recordRow = `
	INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot, final)
	VALUES ($1, $2, $3, $4, $5)
	    ON CONFLICT (tenant_id) DO UPDATE
	   SET move_id = $2, round = $3, snapshot = $4, final = $5, at = now()
	 WHERE r.move_id <> $2 OR (r.round = $6 AND NOT r.final)`

// apply reads the tables of a round.
func (t *Target) apply(ctx context.Context, tx pgx.Tx, in *frameReader, s Step, since string) (Totals, error) {
	var sum Totals
	whole := since == ""
	list, err := t.tables.get(ctx, tx, strings.HasSuffix(since, Everything)) // clear has just read them anew
	if err != nil {
		return sum, err
	}
	var few []part
	store := func() error {
		n, err := receiveFew(ctx, tx, few, s)
		few, sum.Rows, sum.Keys = nil, sum.Rows+n.Rows, sum.Keys+n.Keys
		return err
	}
	for {
		kind, payload, err := in.next()
		if err != nil {
			return sum, err
		}
		if kind == frameLast {
			if err := store(); err != nil {
				return sum, err
			}
			var sent Totals
			if err := json.Unmarshal(payload, &sent); err != nil {
				return sum, fmt.Errorf("read the last frame: %w", err)
			}
			if sent.Tables != sum.Tables || sent.Rows != sum.Rows {
				return sum, errCut
			}
			return sent, nil
		}
		var head tableHead
		if kind != frameTable || json.Unmarshal(payload, &head) != nil {
			return sum, problem.New(problem.Invalid, "frame %q in a stream of rows where a table belongs", kind)
		}
		table, err := match(list, head)
		if err != nil { // perhaps it was altered since the catalog was read
			if list, err = t.tables.get(ctx, tx, true); err != nil {
				return sum, err
			}
			if table, err = match(list, head); err != nil {
				return sum, err
			}
		}
		sum.Tables++
		in.rows = countRows(table)
		p := part{table: table, given: head.Given}
		if !whole {
			if p, err = readPart(in, p); err != nil {
				return sum, err
			}
		}
		if p.few {
			if few = append(few, p); len(few) < fewTables {
				continue
			}
			if err := store(); err != nil {
				return sum, err
			}
			continue
		}
		n, err := receiveTable(ctx, tx, in, p, s, whole)
		if err != nil {
			return sum, table.refused(err)
		}
		sum.Rows, sum.Keys = sum.Rows+n.Rows, sum.Keys+n.Keys
	}
}

// receiveFew applies tables of few rows together, as receiveTable applies one.
func receiveFew(ctx context.Context, tx pgx.Tx, parts []part, s Step) (Totals, error) {
	var n Totals
	if len(parts) == 0 {
		return n, nil
	}
	deleted, stored, err := storeFew(ctx, tx, parts, s.Tenant)
	if err != nil {
		return n, err
	}
	for i, p := range parts {
		keys, err := p.keyList()
		if err == nil {
			err = s.settle(ctx, tx, p, p.sent, stored[i], p.table.lookedUp(aKeyList, "$1"), s.Tenant, string(keys))
		}
		if err != nil {
			return n, p.table.refused(err)
		}
		n.Rows, n.Keys = n.Rows+stored[i].Rows, n.Keys+deleted[i]
	}
	return n, nil
}

// match finds the table here and refuses one of another shape.
func match(list []Table, head tableHead) (Table, error) {
	i := slices.IndexFunc(list, func(t Table) bool { return t.Label == head.Name })
	if i < 0 {
		return Table{}, problem.New(problem.Conflict, "table %s is not in the target cell", head.Name)
	}
	if !slices.Equal(list[i].Columns, head.Columns) || list[i].format() != head.Format || head.Types != "" && list[i].Types != head.Types {
		return Table{}, problem.New(problem.Conflict, "table %s has other columns in the target cell", head.Name)
	}
	return list[i], nil
}

// receiveTable applies one table: deletes the keys that changed, copies the rows
// that are there now, and compares what is stored with what was sent.
func receiveTable(ctx context.Context, tx pgx.Tx, in *frameReader, p part, s Step, whole bool) (Totals, error) {
	var n Totals
	t := p.table
	stored := t.Name + " t WHERE t.tenant_id = $1"
	args := []any{s.Tenant}
	if !whole {
		found, deleted, err := deleteMany(ctx, tx, p, s.Tenant)
		if err != nil {
			return n, err
		}
		n.Keys = deleted
		stored, args = found(keyLists, "$1"), append(args, p.keys)
	}
	copyIn := fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT %s)", t.Name, t.columns(), t.format())
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, p.rest(in), copyIn); err != nil {
		return n, err
	}
	var sent Digest
	if err := in.expect(frameEnd, &sent); err != nil {
		return n, err
	}
	have, err := scanDigest(tx.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM %s", t.digest(), stored), args...))
	if err != nil {
		return n, fmt.Errorf("hash: %w", err)
	}
	n.Rows = have.Rows
	return n, s.settle(ctx, tx, p, sent, have, stored, args...)
}

// settle ends a table: what is stored, the rows t of from with its args, is what was sent, and
// its sequences go on from there.
func (s Step) settle(ctx context.Context, tx pgx.Tx, p part, sent, stored Digest, from string, args ...any) error {
	if stored != sent {
		return problem.New(problem.Conflict, "rows of %s differ after they were stored: %d sent, %d stored", p.table.Label, sent.Rows, stored.Rows)
	}
	return s.raiseSequences(ctx, tx, p, from, args...)
}

// clear deletes the tenant's rows from every table: a kept copy, or what an earlier attempt left.
func (t *Target) clear(ctx context.Context, tx pgx.Tx, tenant directory.TenantID) error {
	list, err := t.tables.get(ctx, tx, true)
	if err != nil {
		return err
	}
	for _, t := range list {
		if _, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE tenant_id = $1", t.Name), tenant); err != nil {
			return fmt.Errorf("clear %s: %w", t.Label, err)
		}
	}
	return nil
}
