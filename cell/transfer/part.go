package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A part is what a round brings of one table.
type part struct {
	table Table
	keys  []string         // JSON arrays of keys whose rows are deleted first
	data  []byte           // COPY data, as far as it was read
	rows  [][][]byte       // data, row by row; only where few
	few   bool             // data is all there is, and little
	given map[string]int64 // tableHead's
	sent  Digest           // of the rows, by the source; only where few
}

// readPart reads a table of a round up to its end, or as far as it may be kept.
func readPart(in *frameReader, p part) (part, error) {
	t := p.table
	size := 0
	for {
		kind, payload, err := in.next()
		if err != nil {
			return p, err
		}
		switch {
		case kind == frameKeys:
			p.keys = append(p.keys, string(payload))
			size += len(payload)
		case kind == frameData && t.Binary && size+len(p.data)+len(payload) <= fewBytes:
			if err := in.take(payload); err != nil {
				return p, err
			}
			p.data = append(p.data, payload...)
		case kind == frameEnd && t.Binary && size <= fewBytes:
			rows, err := tuples(p.data, len(t.Columns))
			if err != nil || len(rows) > fewRows {
				in.unread() // COPY takes them, or says what is wrong with them
				return p, nil
			}
			p.rows, p.few = rows, true
			return p, json.Unmarshal(payload, &p.sent)
		default:
			in.unread()
			return p, nil
		}
	}
}

// rest is the table's COPY data: what was kept, then what follows.
func (p part) rest(in *frameReader) io.Reader {
	return io.MultiReader(bytes.NewReader(p.data), &dataReader{f: in})
}

var errTuples = problem.New(problem.Invalid, "the COPY data of a table is malformed")

// tuples takes COPY data in binary form apart.
func tuples(b []byte, columns int) ([][][]byte, error) {
	b, ok := bytes.CutPrefix(b, copyHead)
	if !ok {
		return nil, errTuples
	}
	var rows [][][]byte
	for len(b) >= 2 {
		n := int(int16(binary.BigEndian.Uint16(b)))
		if b = b[2:]; n == -1 {
			if len(b) > 0 {
				return nil, errTuples
			}
			return rows, nil
		}
		if n != columns {
			return nil, errTuples
		}
		row := make([][]byte, n)
		for i := range row {
			if len(b) < 4 {
				return nil, errTuples
			}
			size := int(int32(binary.BigEndian.Uint32(b)))
			if b = b[4:]; size == -1 {
				continue
			}
			if size < 0 || size > len(b) {
				return nil, errTuples
			}
			row[i], b = b[:size:size], b[size:]
		}
		rows = append(rows, row)
	}
	return nil, errTuples
}

// deleteFrom deletes the rows t of found, which are of the tenant $1.
func (t Table) deleteFrom(found string) string {
	if !t.Parted {
		return fmt.Sprintf("DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM %s))", t.Name, found)
	}
	return fmt.Sprintf("DELETE FROM %s d USING (SELECT t.tableoid AS part, t.ctid AS place FROM %s) t WHERE d.tenant_id = $1 AND d.tableoid = t.part AND d.ctid = t.place", t.Name, found)
}

// deleteKeyed deletes the rows of the keys given as a JSON array.
func (t Table) deleteKeyed() string { return t.deleteFrom(t.lookedUp(aKeyList, "$1")) }

// digestKeyed hashes the rows of the keys given as a JSON array.
func (t Table) digestKeyed() string {
	return fmt.Sprintf("SELECT %s FROM %s", t.digest(), t.lookedUp(aKeyList, "$1"))
}

// insertSizes are the numbers of rows that one prepared statement stores, down to one.
var insertSizes = []int{64, 16, 4, 1}

// insert stores n rows; every value is given, also where the table would make it.
func (t Table) insert(n int) string {
	var b strings.Builder
	for row := range n {
		for col := range t.Columns {
			b.WriteString([]string{"), (", ", "}[min(col, 1)])
			fmt.Fprintf(&b, "$%d", row*len(t.Columns)+col+1)
		}
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES %s)", t.Name, t.columns(), b.String()[3:])
}

// inserts is the part's rows as the parameters of statements of insertSizes.
func (p part) inserts(do func(size int, values [][]byte) error) error {
	rows := p.rows
	for _, size := range insertSizes {
		for ; len(rows) >= size; rows = rows[size:] {
			if err := do(size, slices.Concat(rows[:size]...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyList is all keys of the part as one JSON array.
func (p part) keyList() ([]byte, error) {
	if len(p.keys) == 1 {
		return []byte(p.keys[0]), nil
	}
	all := []json.RawMessage{}
	for _, k := range p.keys {
		var some []json.RawMessage
		if err := json.Unmarshal([]byte(k), &some); err != nil {
			return nil, problem.Wrap(problem.Invalid, err, "the keys of a table are malformed")
		}
		all = append(all, some...)
	}
	return jsonArray(all), nil
}

// storeFew stores parts of few rows in one round trip and tells, for each, how many
// rows it deleted and what is stored now.
func storeFew(ctx context.Context, tx pgx.Tx, parts []part, tenant directory.TenantID) (deleted []int64, stored []Digest, err error) {
	list := make([]Table, len(parts))
	keys := make([][]byte, len(parts))
	for i, p := range parts {
		list[i] = p.table
		if keys[i], err = p.keyList(); err != nil {
			return nil, nil, err
		}
	}
	texts := []func(Table) string{Table.deleteKeyed, Table.digestKeyed}
	for _, size := range insertSizes {
		texts = append(texts, func(t Table) string { return t.insert(size) })
	}
	defer func() { unprepare(ctx, tx, err, list, texts...) }()
	deletes, err := prepareAll(ctx, tx, list, Table.deleteKeyed)
	if err != nil {
		return nil, nil, err
	}
	digests, err := prepareAll(ctx, tx, list, Table.digestKeyed)
	if err != nil {
		return nil, nil, err
	}
	type insert struct {
		*pgconn.StatementDescription
		values [][]byte
	}
	inserts := make([][]insert, len(parts))
	for i, p := range parts {
		err := p.inserts(func(size int, values [][]byte) error {
			q, err := prepare(ctx, tx, p.table, p.table.insert(size))
			inserts[i] = append(inserts[i], insert{q, values})
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	pipe := tx.Conn().PgConn().StartPipeline(ctx)
	defer pipe.Close()
	pipe.SendQueryParams(keptPlans, nil, nil, nil, asText)
	for i := range parts {
		pipe.SendQueryStatement(deletes[i], tenantAnd(tenant, keys[i]), asText, asText)
		for _, q := range inserts[i] {
			pipe.SendQueryStatement(q.StatementDescription, q.values, asBinary, asText)
		}
		pipe.SendQueryStatement(digests[i], tenantAnd(tenant, keys[i]), asText, asText)
	}
	if err := pipe.Sync(); err != nil {
		return nil, nil, fmt.Errorf("store rows: %w", err)
	}
	if rows, err := nextRows(pipe); err != nil {
		return nil, nil, fmt.Errorf("store rows: %w", err)
	} else if _, err := rows.Close(); err != nil {
		return nil, nil, fmt.Errorf("store rows: %w", err)
	}
	deleted, stored = make([]int64, len(parts)), make([]Digest, len(parts))
	for i, p := range parts {
		if deleted[i], stored[i], err = storedPart(pipe, len(inserts[i])); err != nil {
			return nil, nil, p.table.refused(err)
		}
	}
	return deleted, stored, pipe.Close()
}

// storedPart reads the answers about one part that is stored by n statements.
func storedPart(pipe *pgconn.Pipeline, n int) (deleted int64, d Digest, err error) {
	for i := range n + 2 {
		rows, err := nextRows(pipe)
		if err != nil {
			return 0, d, err
		}
		for rows.NextRow() {
			v := rows.Values()
			if _, err := fmt.Sscan(string(v[0]), &d.Rows); err != nil {
				return 0, d, err
			}
			d.A, d.B = string(v[1]), string(v[2])
		}
		tag, err := rows.Close()
		if err != nil {
			return 0, d, err
		}
		if i == 0 {
			deleted = tag.RowsAffected()
		}
	}
	return deleted, d, nil
}
