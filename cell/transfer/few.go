package transfer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// Rounds of few keys are what a pause consists of, and there the way to the
// server and back, and planning, cost more than the rows. Up to these bounds a
// round is a handful of round trips, whatever the number of its tables, with
// statements that stay prepared on their connection; beyond them it streams.
const (
	fewKeys   = 2000      // of a round, at the source
	fewRows   = 256       // of a table, at the target: more are faster by COPY
	fewBytes  = 256 << 10 // of keys, and of a table's keys and COPY data at the target
	fewTables = 32        // at the target, kept to be stored at once
)

// formats of values on the wire.
var (
	asText   = []int16{0}
	asBinary = []int16{1}
)

// keptPlans lets the prepared statements of a round be planned once for a connection:
// they name the way to the rows themselves (Table.lookedUp), whatever the statistics
// say. Keys are made distinct by hash: the statistics know nothing of cell.dirty either.
const keptPlans = `
	SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
	       set_config('enable_nestloop', 'on', true)`

// noted reads the keys that were captured after a snapshot. The bound on xid says
// nothing new: it is what the index knows.
const noted = `
	SELECT DISTINCT tbl, pk::text FROM cell.dirty
	 WHERE tenant_id = $1 AND xid >= pg_snapshot_xmin($2::text::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
	 LIMIT $3`

// fewNoted are the noted keys by table, as far as they are few.
type fewNoted struct {
	keys           map[string][]json.RawMessage
	n, size, limit int
}

// queue reads them, up to limit and a little more, in a message with others.
func (f *fewNoted) queue(b *pgx.Batch, tenant directory.TenantID, since string, limit int) {
	f.keys, f.limit = map[string][]json.RawMessage{}, limit
	b.Queue(keptPlans)
	b.Queue(noted, tenant, since, limit+1).Query(func(rows pgx.Rows) error {
		var table string
		var key []byte
		_, err := pgx.ForEachRow(rows, []any{&table, &key}, func() error {
			if f.n, f.size = f.n+1, f.size+len(key); f.size <= fewBytes {
				f.keys[table] = append(f.keys[table], json.RawMessage(string(key)))
			}
			return nil
		})
		return err
	})
}

// all reports whether no more keys were noted than these, and none is missing.
func (f *fewNoted) all() bool { return f.n <= f.limit && f.size <= fewBytes }

// fewSelect reads the rows of some keys, each with its two hashes behind its columns.
func (t Table) fewSelect() string {
	a, b := t.hashes()
	return fmt.Sprintf("SELECT %s, %s, %s FROM %s", t.selected(), a, b, t.lookedUp(aKeyList, "$1"))
}

// sendFew sends the tables of list, all of few keys and of binary form, in one round trip.
func (s *Source) sendFew(ctx context.Context, tx pgx.Tx, out *frameWriter, list []Table, keys map[string][]json.RawMessage, tenant directory.TenantID) (total Totals, err error) {
	defer func() { unprepare(ctx, tx, err, list, Table.fewSelect) }()
	q, err := prepareAll(ctx, tx, list, Table.fewSelect)
	if err != nil {
		return total, err
	}
	frames := make([][]byte, len(list))
	p := tx.Conn().PgConn().StartPipeline(ctx)
	defer p.Close()
	for i, t := range list {
		frames[i] = jsonArray(keys[t.Label])
		p.SendQueryStatement(q[i], tenantAnd(tenant, frames[i]), asText, asBinary)
	}
	if err := p.Sync(); err != nil {
		return total, fmt.Errorf("send rows: %w", err)
	}
	for i, t := range list {
		if err := out.json(frameTable, t.head()); err != nil {
			return total, err
		}
		if err := out.frame(frameKeys, frames[i]); err != nil {
			return total, err
		}
		rows, err := nextRows(p)
		if err != nil {
			return total, fmt.Errorf("send %s: %w", t.Label, err)
		}
		d, err := sendRows(rows, out)
		if err != nil {
			return total, fmt.Errorf("send %s: %w", t.Label, err)
		}
		if err := out.json(frameEnd, d); err != nil {
			return total, err
		}
		total.Tables, total.Rows, total.Keys = total.Tables+1, total.Rows+d.Rows, total.Keys+int64(len(keys[t.Label]))
	}
	return total, p.Close()
}

// tenantAnd are the parameters of a statement about some keys of a tenant.
func tenantAnd(tenant directory.TenantID, keys []byte) [][]byte {
	return [][]byte{[]byte(tenant.String()), keys}
}

// prepared is the text, and the name, of a statement that stays prepared: another one
// when the table's columns have other types, because those of the parameters were
// settled when it was prepared.
func (t Table) prepared(sql string) string { return fmt.Sprintf("%s /* %s */", sql, t.Types) }

// prepare prepares a statement for a table. Where the connection has it already this
// asks the server nothing.
func prepare(ctx context.Context, tx pgx.Tx, t Table, sql string) (*pgconn.StatementDescription, error) {
	text := t.prepared(sql)
	q, err := tx.Conn().Prepare(ctx, text, text)
	if err != nil {
		return nil, fmt.Errorf("prepare for %s: %w", t.Label, err)
	}
	return q, nil
}

// prepareAll prepares one statement for each table.
func prepareAll(ctx context.Context, tx pgx.Tx, list []Table, sql func(Table) string) ([]*pgconn.StatementDescription, error) {
	out := make([]*pgconn.StatementDescription, len(list))
	for i, t := range list {
		var err error
		if out[i], err = prepare(ctx, tx, t, sql(t)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unprepare forgets the statements of a round that the server has refused with err: a
// table that was altered makes them fail for as long as the connection lives. Who asks
// for the round again has it.
func unprepare(ctx context.Context, tx pgx.Tx, err error, list []Table, statements ...func(Table) string) {
	if pg.Code(err) == "" {
		return
	}
	for _, sql := range statements {
		for _, t := range list {
			if tx.Conn().Deallocate(ctx, t.prepared(sql(t))) != nil {
				return // the connection is gone, and its statements with it
			}
		}
	}
}

// copyHead begins COPY's binary form: no flags, no extension.
var copyHead = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// copyTail ends it.
var copyTail = []byte{0xff, 0xff}

// sendRows sends rows, whose two hashes are their last columns, as COPY would have: a
// value's binary form is the same in COPY and in a result.
func sendRows(rows *pgconn.ResultReader, out *frameWriter) (Digest, error) {
	var sum digester
	held, most := 0, out.pace.piece()
	buf := append(make([]byte, 0, 4<<10), copyHead...)
	for rows.NextRow() {
		values := rows.Values()
		n := len(values) - 2
		sum.add(values[n], values[n+1])
		buf = appendTuple(buf, values[:n])
		if held++; len(buf) >= chunk || held >= most {
			if _, err := out.rows(buf, held); err != nil {
				return Digest{}, err
			}
			buf, held = buf[:0], 0
		}
	}
	if _, err := rows.Close(); err != nil {
		return Digest{}, err
	}
	_, err := out.rows(append(buf, copyTail...), held)
	return sum.digest(), err
}

// nextRows is the next result of a pipeline of prepared statements.
func nextRows(p *pgconn.Pipeline) (*pgconn.ResultReader, error) {
	got, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	rows, ok := got.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("a result is missing: %T", got)
	}
	return rows, nil
}

func appendTuple(buf []byte, values [][]byte) []byte {
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			buf = binary.BigEndian.AppendUint32(buf, ^uint32(0))
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(v)))
		buf = append(buf, v...)
	}
	return buf
}

// A digester sums hashes of rows as the server does in Table.digest.
type digester struct {
	rows int64
	a, b big.Int
}

func (d *digester) add(a, b []byte) {
	d.rows++
	for _, h := range []struct {
		sum *big.Int
		v   []byte
	}{{&d.a, a}, {&d.b, b}} {
		h.sum.Add(h.sum, big.NewInt(int64(binary.BigEndian.Uint64(h.v))))
	}
}

func (d *digester) digest() Digest { return Digest{Rows: d.rows, A: d.a.String(), B: d.b.String()} }
