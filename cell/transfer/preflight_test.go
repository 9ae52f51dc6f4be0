package transfer_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/transfer"
)

// unsafe holds, for each finding, a schema that must be refused for it. The table
// app.ok is a sound tenant table to hang things on.
var unsafe = []struct{ code, ddl string }{
	{"no-primary-key", `CREATE TABLE app.t (tenant_id bigint NOT NULL, id int)`},
	{"key-without-tenant", `CREATE TABLE app.t (tenant_id bigint NOT NULL, id int PRIMARY KEY)`},
	{"tenant-id-type", `CREATE TABLE app.t (tenant_id integer NOT NULL, id int, PRIMARY KEY (tenant_id, id))`},
	{"tenant-id-null", `CREATE TABLE app.t (tenant_id bigint, id int)`},
	{"unlogged", `CREATE UNLOGGED TABLE app.t (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id))`},
	{"foreign-table", `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE app.t (tenant_id bigint NOT NULL) SERVER s`},
	{"inheritance", `CREATE TABLE app.t (extra int, PRIMARY KEY (tenant_id, id)) INHERITS (app.ok)`},
	{"unique-without-tenant", `CREATE UNIQUE INDEX ON app.ok (name)`},
	{"exclusion-without-tenant", `ALTER TABLE app.ok ADD EXCLUDE USING gist (during WITH &&)`},
	{"foreign-key-without-tenant", `ALTER TABLE app.ok ADD UNIQUE (id); ALTER TABLE app.ok ADD FOREIGN KEY (parent) REFERENCES app.ok (id)`},
	{"foreign-key-to-shared", `CREATE TABLE app.country (code text PRIMARY KEY); ALTER TABLE app.ok ADD FOREIGN KEY (name) REFERENCES app.country`},
	{"foreign-key-from-shared", `CREATE TABLE app.shared (tenant bigint, id int, FOREIGN KEY (tenant, id) REFERENCES app.ok (tenant_id, id))`},
	{"row-security", `ALTER TABLE app.ok NO FORCE ROW LEVEL SECURITY`},
	{"no-guard", `ALTER TABLE app.ok DISABLE TRIGGER zz_cell_guard_update`},
	{"truncate-allowed", `DROP TRIGGER zz_cell_guard_truncate ON app.ok`},
	{"no-capture", `ALTER TABLE app.ok ENABLE TRIGGER zz_cell_capture`},
	{"always-trigger", `CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER mine BEFORE INSERT ON app.ok FOR EACH ROW EXECUTE FUNCTION app.f(); ALTER TABLE app.ok ENABLE ALWAYS TRIGGER mine`},
	{"rule", `CREATE RULE nothing AS ON DELETE TO app.ok DO INSTEAD NOTHING`},
	{"always-rule", `CREATE RULE nothing AS ON DELETE TO app.ok DO INSTEAD NOTHING; ALTER TABLE app.ok ENABLE ALWAYS RULE nothing`},
	{"large-object", `ALTER TABLE app.ok ADD photo oid`},
	{"catalog-reference", `ALTER TABLE app.ok ADD kind regclass`},
	{"physical-reference", `ALTER TABLE app.ok ADD changed_in xid8`},
	{"money", `ALTER TABLE app.ok ADD price money`},
	{"collation", `CREATE COLLATION app.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); ALTER TABLE app.ok ADD nick text COLLATE app.ci`},
	{"shared-sequence", `CREATE SEQUENCE app.numbers; ALTER TABLE app.ok ADD number bigint DEFAULT nextval('app.numbers')`},
	{"cached-sequence", `ALTER SEQUENCE app.ok_no_seq CACHE 50`},
	{"descending-sequence", `ALTER SEQUENCE app.ok_no_seq INCREMENT -1 MINVALUE -100`},
	{"materialized-view", `CREATE MATERIALIZED VIEW app.total AS SELECT tenant_id, count(*) FROM app.ok GROUP BY tenant_id`},
	{"subscription", `CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false, slot_name = NONE); INSERT INTO pg_subscription_rel SELECT oid, 'app.ok'::regclass, 'r', NULL FROM pg_subscription`},
	{"invalid-index", `CREATE INDEX i ON app.ok (name); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.i'::regclass`},
	{"not-validated", `ALTER TABLE app.ok ADD CHECK (id > 0) NOT VALID`},
	{"not-validated", `CREATE DOMAIN app.age AS int; ALTER TABLE app.ok ADD age app.age; ALTER DOMAIN app.age ADD CHECK (VALUE > 5) NOT VALID`},
	{"materialized-view", `CREATE VIEW app.v AS SELECT tenant_id FROM app.ok; CREATE VIEW app.w AS SELECT * FROM app.v; CREATE MATERIALIZED VIEW app.total AS SELECT count(*) FROM app.w`},
	{"no-guard", parted + `ALTER TABLE app.p_0 DISABLE TRIGGER zz_cell_guard_update`},
	{"no-capture", parted + `ALTER TABLE app.p_0 DISABLE TRIGGER zz_cell_capture`},
	{"large-object", `CREATE DOMAIN app.photo AS oid; ALTER TABLE app.ok ADD photo app.photo`},
	{"large-object", `ALTER TABLE app.ok ADD photos oid[]`},
	{"money", `CREATE TYPE app.price AS (amount money[]); ALTER TABLE app.ok ADD price app.price`},
	{"unique-without-tenant", `CREATE UNIQUE INDEX ON app.ok (name) INCLUDE (tenant_id)`},
	{"unique-without-tenant", parted + `CREATE UNIQUE INDEX ON app.p_0 (id)`},
	{"exclusion-without-tenant", parted + `ALTER TABLE app.p_0 ADD EXCLUDE USING btree (id WITH =)`},
	{"foreign-key-without-tenant", parted + `ALTER TABLE app.ok ADD UNIQUE (id); ALTER TABLE app.p_0 ADD FOREIGN KEY (id) REFERENCES app.ok (id)`},
	{"foreign-key-to-shared", parted + `CREATE TABLE app.country (id int PRIMARY KEY); ALTER TABLE app.p_0 ADD FOREIGN KEY (id) REFERENCES app.country`},
	{"catalog-reference", `ALTER TABLE app.ok ADD rights aclitem[]`},
	{"shared-sequence", `ALTER TABLE app.ok ADD number bigserial; CREATE SEQUENCE app.later; ALTER TABLE app.ok ALTER number SET DEFAULT nextval('app.later')`},
	{"shared-sequence", `CREATE SEQUENCE app.numbers; CREATE DOMAIN app.number AS bigint DEFAULT nextval('app.numbers'); ALTER TABLE app.ok ADD number app.number`},
	{"computed-number", codes + `ALTER TABLE app.ok ADD code text DEFAULT nextval('app.codes'); ALTER SEQUENCE app.codes OWNED BY app.ok.code`},
	{"computed-number", codes + `ALTER TABLE app.ok ADD code bigint DEFAULT -nextval('app.codes'); ALTER SEQUENCE app.codes OWNED BY app.ok.code`},
	{"collation-version", `UPDATE pg_database SET datcollversion = 'before' WHERE datname = current_database(); CREATE TABLE app.t (tenant_id bigint NOT NULL, k text, PRIMARY KEY (tenant_id, k))`},
	{"no-execute", even + `ALTER TABLE app.ok ADD CHECK (app.even(id))`},
	{"no-execute", even + `ALTER TABLE app.ok ADD even boolean GENERATED ALWAYS AS (app.even(id)) STORED`},
	{"no-execute", even + `CREATE INDEX ON app.ok (tenant_id, app.even(id))`},
	{"no-execute", even + `CREATE DOMAIN app.pair AS int CHECK (app.even(VALUE)); ALTER TABLE app.ok ADD pair app.pair`},
}

// parted is a sound table of one partition.
const parted = `
	CREATE TABLE app.p (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (id);
	CREATE TABLE app.p_0 PARTITION OF app.p FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	SELECT cell.protect('app.p'); `

const codes = `CREATE SEQUENCE app.codes; `

// even is a function that only the application may call.
const even = `
	CREATE FUNCTION app.even(int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 2 = 0';
	REVOKE EXECUTE ON FUNCTION app.even FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.even TO cell_app; `

const sound = `
	CREATE SCHEMA app;
	CREATE TABLE app.ok (tenant_id bigint NOT NULL, id int, name text, parent int, during tstzrange, no bigint GENERATED BY DEFAULT AS IDENTITY, PRIMARY KEY (tenant_id, id))`

func TestPreflightRefusesUnsafeSchemas(t *testing.T) {
	t.Parallel()
	c := newCell(t, "a", sound, "app.ok")
	var look transfer.Preflight // one: what it remembers must not hide what has been altered
	r, err := look.Report(t.Context(), c.owner, 1, true)
	must(t, err)
	if len(r.Findings) != 0 {
		t.Fatalf("findings in a sound schema: %+v", r.Findings)
	}
	for _, u := range unsafe {
		tx, err := c.owner.Begin(t.Context())
		must(t, err)
		if _, err := tx.Exec(t.Context(), `SET LOCAL allow_system_table_mods = on; `+u.ddl, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", u.code, err)
		}
		got, err := look.Report(t.Context(), tx, 1, true)
		if err != nil {
			t.Fatalf("%s: %v", u.code, err)
		}
		i := slices.IndexFunc(got.Findings, func(f transfer.Finding) bool { return f.Code == u.code })
		if i < 0 {
			t.Errorf("%s: not found; got %+v", u.code, got.Findings)
		} else if f := got.Findings[i]; f.Table == "" || f.Why == "" || f.Fix == "" {
			t.Errorf("%s: the finding lacks its table, reason or fix: %+v", u.code, f)
		}
		must(t, tx.Rollback(t.Context()))
	}
}

func TestFingerprintTellsSchemasApart(t *testing.T) {
	t.Parallel()
	c := newCell(t, "a", sound+`; CREATE TYPE app.mood AS ENUM ('sad'); CREATE TABLE app.place (street text, city text); ALTER TABLE app.ok ADD homes app.place[]`, "app.ok")
	var look transfer.Preflight
	fingerprint := func(ddl string) string {
		tx, err := c.owner.Begin(t.Context())
		must(t, err)
		defer tx.Rollback(t.Context()) //nolint:errcheck // the test looks, and leaves nothing
		if _, err := tx.Exec(t.Context(), ddl); err != nil {
			t.Fatalf("%s: %v", ddl, err)
		}
		r, err := look.Report(t.Context(), tx, 1, false)
		must(t, err)
		return r.Fingerprint
	}
	want := fingerprint(`SELECT`)
	if again := fingerprint(`CREATE TABLE app.other (id int)`); again != want {
		t.Error("a table that is not a tenant's changes the fingerprint")
	}
	for _, ddl := range []string{
		`ALTER TABLE app.ok ADD extra int`, `ALTER TABLE app.ok ALTER name TYPE varchar(10)`, `ALTER TABLE app.ok DROP name`,
		`ALTER TABLE app.ok ALTER name SET NOT NULL`, `CREATE UNIQUE INDEX ON app.ok (tenant_id, name)`, `ALTER TABLE app.ok ADD CHECK (id > 0)`,
		`ALTER TABLE app.ok ADD big text GENERATED ALWAYS AS (upper(name)) STORED`, `ALTER TYPE app.mood RENAME VALUE 'sad' TO 'glad'`,
		`ALTER TABLE app.ok ALTER name TYPE text COLLATE "C"`,
		`ALTER TABLE app.place DROP street; ALTER TABLE app.place ADD street text`, // a row as a value is its columns in their order
	} {
		if fingerprint(ddl) == want {
			t.Errorf("%s: the fingerprint stays the same", ddl)
		}
	}
}

func TestVerifyFindsOrphansAndGaps(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	step := transfer.Step{Move: m.ID, Tenant: mover, Epoch: 2}
	must(t, b.Reserve(t.Context(), m))
	must(t, a.Arm(t.Context(), m, wait))
	if _, err := round(t, a, b, m, false); err != nil {
		t.Fatal(err)
	}
	got, err := transfer.Verify(t.Context(), b.mover, step)
	must(t, err)
	if len(got) != 0 {
		t.Fatalf("findings in a sound copy: %+v", got)
	}
	tx, err := b.mover.Begin(t.Context())
	must(t, err)
	for _, sql := range []string{
		`SELECT cell.enter_move(7, 'mv_1', 2, '{incoming}')`, `SET LOCAL session_replication_role = replica`,
		`DELETE FROM app.thing WHERE tenant_id = 7`,
		`INSERT INTO cell.outbox (tenant_id, seq, id, cell, epoch, type, subject, data) SELECT 7, n, gen_random_uuid(), 'a', 1, 't', 's', '{}' FROM unnest('{1,2,4}'::int[]) n`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	must(t, tx.Commit(t.Context()))
	got, err = transfer.Verify(t.Context(), b.mover, step)
	must(t, err)
	for _, code := range []string{"orphans", "outbox-gap"} {
		if !slices.ContainsFunc(got, func(f transfer.Finding) bool { return f.Code == code }) {
			t.Errorf("%s: not found; got %+v", code, got)
		}
	}
}
