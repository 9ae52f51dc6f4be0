package transfer

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// A Table is a tenant table as a move sees it.
type Table struct {
	Name     string   // schema.table, quoted where it must be
	Label    string   // schema.table as cell.dirty names it
	Columns  []string // stored columns by name, quoted: the same order in every cell
	Hashed   []string // for each column, the expression over t that is hashed
	Key      []string // the primary key's columns but tenant_id, quoted
	KeyTypes []string // their types
	KeyOps   []string // the schemas of their operators, quoted; "" where those are the server's own
	Binary   bool     // its values mean the same to another server in COPY's binary form
	Counted  []string // columns that a sequence of the table's own fills, quoted
	Numbers  []string // those sequences, qualified and quoted
	Types    string   // stands for the types of Columns
	Parted   bool     // it is partitioned: a row's place does not say which partition's it is
	Versions string   // where its module notes its migrations, quoted; "" where it has none

	given map[string]int64 // at a source: by counted column, what its sequence has given last
}

// tables lists the tenant tables. Values of types that a cell made itself travel
// as text where their binary form holds that cell's own type numbers (arrays and
// composites). So does tsquery: Postgres cannot read an empty one's binary form. Types
// that have no hash, or one of their own cell's numbers (enums), are hashed as text. The
// text of xml, also in an array, is what its output makes of it, which is what a copy
// brings: a cast keeps a declaration that both leave out, and a newline behind it.
const tables = `
	SELECT format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname, col.names, col.hashed, key.names, key.types, key.ops, col.portable, coalesce(col.counted, '{}'), coalesce(col.numbers, '{}'), col.types, c.relkind = 'p', coalesce(v.name, '')
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL (
	       SELECT array_agg(quote_ident(a.attname) ORDER BY a.attname COLLATE "C") FILTER (WHERE a.attgenerated = '') AS names,
	              array_agg(CASE WHEN h.yes THEN 't.' || quote_ident(a.attname)
	                             WHEN ty.typoutput = 'xml_out'::regproc THEN 'ltrim(textin(xml_out(t.' || quote_ident(a.attname) || ')), E''\n'')'
	                             WHEN ty.typcategory = 'A' AND ty.typelem = 'xml'::regtype
	                             THEN format('concat(cardinality(t.%1$I), array_dims(t.%1$I), (SELECT array_agg(ltrim(textin(xml_out(u.x)), E''\n'') ORDER BY u.n) FROM unnest(t.%1$I) WITH ORDINALITY u (x, n)))', a.attname)
	                             ELSE 't.' || quote_ident(a.attname) || '::text' END
	                        ORDER BY a.attname COLLATE "C") FILTER (WHERE a.attgenerated = '') AS hashed,
	              bool_and(ty.typtype = 'e' OR (ty.typtype IN ('b', 'r', 'm') AND ty.oid < 16384)
	                       OR (ty.typtype = 'd' AND ty.typbasetype < 16384))
	              AND NOT bool_or(coalesce(nullif(ty.typbasetype, 0), ty.oid) IN ('tsquery'::regtype, 'tsquery[]'::regtype)) AS portable,
	              array_agg(quote_ident(a.attname) ORDER BY a.attname COLLATE "C")
	                        FILTER (WHERE pg_get_serial_sequence(c.oid::regclass::text, a.attname) IS NOT NULL) AS counted,
	              array_remove(array_agg(pg_get_serial_sequence(c.oid::regclass::text, a.attname) ORDER BY a.attname COLLATE "C"), NULL) AS numbers,
	              md5(string_agg(format_type(a.atttypid, a.atttypmod), ' ' ORDER BY a.attname COLLATE "C") FILTER (WHERE a.attgenerated = '')) AS types
	         FROM pg_attribute a
	         JOIN pg_type ty ON ty.oid = a.atttypid
	        CROSS JOIN LATERAL (
	              SELECT ty.oid < 16384 AND EXISTS (
	                     SELECT FROM pg_opclass o JOIN pg_am am ON am.oid = o.opcmethod
	                      WHERE am.amname = 'hash' AND o.opcdefault
	                        AND o.opcintype = CASE WHEN ty.typname = 'varchar' THEN 'text'::regtype ELSE ty.oid END) AS yes) h
	        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) col
	 CROSS JOIN LATERAL (
	       SELECT coalesce(array_agg(quote_ident(a.attname) ORDER BY k.ord), '{}') AS names,
	              coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.ord), '{}') AS types,
	              coalesce(array_agg(coalesce((
	                       SELECT quote_ident(s.nspname)
	                         FROM pg_opclass o
	                         JOIN pg_amop m ON m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype AND m.amopstrategy = 3
	                         JOIN pg_operator p ON p.oid = m.amopopr
	                         JOIN pg_namespace s ON s.oid = p.oprnamespace
	                        WHERE o.oid = i.indclass[k.ord::int - 1] AND s.nspname <> 'pg_catalog'), '') ORDER BY k.ord), '{}') AS ops
	         FROM pg_index i
	        CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, ord)
	         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attname <> 'tenant_id' AND k.ord <= i.indnkeyatts
	        WHERE i.indrelid = c.oid AND i.indisprimary) key
	  LEFT JOIN LATERAL (
	       SELECT format('%I.%I', n.nspname, s.relname) AS name
	         FROM pg_class s
	         JOIN pg_attribute a ON a.attrelid = s.oid AND a.attname = 'version_id'
	        WHERE s.relnamespace = n.oid AND s.relname = 'schema_version' AND n.nspname <> 'cell' AND has_table_privilege(s.oid, 'SELECT')) v ON true
	 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relforcerowsecurity
	   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
	   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
	 ORDER BY n.nspname || '.' || c.relname COLLATE "C"`

// Tables lists the tenant tables of the database behind db, by name.
func Tables(ctx context.Context, db pg.DB) ([]Table, error) {
	rows, err := db.Query(ctx, tables)
	if err != nil {
		return nil, fmt.Errorf("list tenant tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
	if err != nil {
		return nil, fmt.Errorf("list tenant tables: %w", err)
	}
	return list, nil
}

// columns is the column list of COPY and INSERT.
func (t Table) columns() string { return strings.Join(t.Columns, ", ") }

// selected is the column list of a SELECT from t.
func (t Table) selected() string { return "t." + strings.Join(t.Columns, ", t.") }

// op is an operator of the key's i-th column. A session of ours finds none of an extension by itself: of two texts that
// are one citext it would say that they differ, as text does.
func (t Table) op(i int, op string) string {
	if t.KeyOps[i] == "" {
		return op
	}
	return fmt.Sprintf("OPERATOR(%s.%s)", t.KeyOps[i], op)
}

// keyed is the join condition between t and a jsonb array of key values named pk.
func (t Table) keyed(pk string) string {
	var b strings.Builder
	for i, col := range t.Key {
		fmt.Fprintf(&b, " AND t.%s %s (%s->>%d)::%s", col, t.op(i, "="), pk, i, t.KeyTypes[i])
	}
	return b.String()
}

// distinct is a FROM item of the keys pk of set, once each, and the condition on the rows
// t that have them. A key may have several texts: 1.0 and 1.00 are one number.
func (t Table) distinct(set string) (from, on string) {
	var keys, is strings.Builder
	for i, col := range t.Key {
		fmt.Fprintf(&keys, ", (k.pk->>%d)::%s AS k%d", i, t.KeyTypes[i], i)
		fmt.Fprintf(&is, " AND t.%s %s k.k%d", col, t.op(i, "="), i)
	}
	return fmt.Sprintf("(SELECT DISTINCT true%s FROM %s k(pk)) k", &keys, set), is.String()
}

// aKeyList is the set of the keys that the JSON array $2 holds; keyLists, of those in
// the arrays that the array $2 holds.
const (
	aKeyList = "jsonb_array_elements($2::jsonb)"
	keyLists = "(SELECT jsonb_array_elements(b::jsonb) FROM unnest($2::text[]) b)"
)

// lookedUp is the way that looks each row up by its primary key. OFFSET 0 keeps the
// planner from any other way: a tenant that has just come is a handful of rows to its
// statistics, and reading all of them, for every round, seems cheaper than it is. The
// same statistics make every index that begins with the tenant look as good as another:
// only the primary key's gives the order that is asked for, where sorting is off.
func (t Table) lookedUp(set, tenant string) string {
	keys, _ := t.distinct(set)
	var on, order strings.Builder
	for i, col := range t.Key {
		if i < len(t.Key)-1 {
			fmt.Fprintf(&on, " AND t.%s %s k.k%d", col, t.op(i, "="), i)
			continue
		}
		fmt.Fprintf(&on, " AND t.%[1]s %[3]s k.k%[2]d AND t.%[1]s %[4]s k.k%[2]d", col, i, t.op(i, ">="), t.op(i, "<="))
		fmt.Fprintf(&order, " ORDER BY t.%s", col)
	}
	return fmt.Sprintf("%s CROSS JOIN LATERAL (SELECT t.*, t.tableoid, t.ctid FROM %s t WHERE t.tenant_id = %s%s%s OFFSET 0) t", keys, t.Name, tenant, &on, &order)
}

// digest is the select list that makes a Digest of the rows t: their number and
// two sums of 64-bit hashes under different seeds, which do not depend on order.
func (t Table) digest() string {
	a, b := t.hashes()
	return fmt.Sprintf(`count(*), coalesce(sum(%s), 0)::text, coalesce(sum(%s), 0)::text`, a, b)
}

// hashes are the two hashes of a row t.
func (t Table) hashes() (a, b string) {
	row := "hash_record_extended(ROW(" + strings.Join(t.Hashed, ", ") + "), "
	return row + "0)", row + "1)"
}

// head announces the table in a round.
func (t Table) head() tableHead {
	return tableHead{Name: t.Label, Columns: t.Columns, Format: t.format(), Types: t.Types, Given: t.given}
}

// format names COPY's form for the table.
func (t Table) format() string {
	if t.Binary {
		return "binary"
	}
	return "text"
}

// A Digest stands for a set of rows: equal sets have equal digests, and two sets
// that differ have equal ones with a chance of about 2^-128.
type Digest struct {
	Rows int64  `json:"rows"`
	A    string `json:"a"`
	B    string `json:"b"`
}

func scanDigest(row pgx.Row) (Digest, error) {
	var d Digest
	err := row.Scan(&d.Rows, &d.A, &d.B)
	return d, err
}
