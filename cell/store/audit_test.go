package store_test

import (
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/testkit"
)

// Whatever would let tenants see each other stops Prepare; and Open, where it
// came later.
func TestUnsafeSchemasAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ ddl, want string }{
		"primary key": {
			`CREATE TABLE notes.x (tenant_id bigint NOT NULL, id bigint PRIMARY KEY); SELECT cell.protect('notes.x');`,
			"notes.x has no primary key that begins with tenant_id",
		},
		"unprotected table": {
			`CREATE TABLE notes.x (tenant_id bigint PRIMARY KEY);`, "notes.x does not force row security",
		},
		"not forced": {
			`CREATE TABLE notes.x (tenant_id bigint PRIMARY KEY); SELECT cell.protect('notes.x'); ALTER TABLE notes.x NO FORCE ROW LEVEL SECURITY;`,
			"notes.x does not force row security",
		},
		"another policy": {
			`CREATE POLICY all_of_it ON notes.note USING (true); SELECT cell.protect('notes.note');`, "has the policy all_of_it",
		},
		"forged policy": {
			`SELECT cell.protect('notes.note'); DROP POLICY cell_tenant ON notes.note; CREATE POLICY cell_tenant ON notes.note USING (true);`,
			"notes.note has no policy cell_tenant",
		},
		"guard not always": {
			`SELECT cell.protect('notes.note'); ALTER TABLE notes.note ENABLE TRIGGER zz_cell_guard_delete; ALTER TABLE notes.note FORCE ROW LEVEL SECURITY;
			 CREATE TABLE notes.x (tenant_id bigint PRIMARY KEY); SELECT cell.protect('notes.x'); ALTER TABLE notes.x DISABLE TRIGGER zz_cell_guard_insert;`,
			"notes.x lacks a guard trigger",
		},
		"capture not always": { // of a whole table, Prepare puts it right
			`CREATE TABLE notes.x (tenant_id bigint, id bigint, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (id); CREATE TABLE notes.x_0 PARTITION OF notes.x FOR VALUES WITH (MODULUS 1, REMAINDER 0);
			 SELECT cell.protect('notes.x'); ALTER TABLE notes.x_0 ENABLE TRIGGER zz_cell_capture;`,
			"notes.x_0 lacks a capture trigger that is always enabled",
		},
		"unique index": {
			`CREATE UNIQUE INDEX title ON notes.note (text);`, "has the unique index notes.title without tenant_id",
		},
		"unique index that includes the tenant": {
			`CREATE UNIQUE INDEX title ON notes.note (text) INCLUDE (tenant_id);`, "has the unique index notes.title without tenant_id",
		},
		"foreign key": {
			`CREATE TABLE notes.kind (tenant_id bigint, id bigint, PRIMARY KEY (tenant_id, id)); SELECT cell.protect('notes.kind');
			 ALTER TABLE notes.note ADD COLUMN owner bigint, ADD CONSTRAINT crossed FOREIGN KEY (owner, tenant_id) REFERENCES notes.kind (tenant_id, id);`,
			"foreign key crossed that does not pair tenant_id",
		},
		"type": {
			`CREATE TABLE notes.x (tenant_id int PRIMARY KEY); SELECT cell.protect('notes.x');`, "notes.x.tenant_id is not bigint NOT NULL",
		},
		"unlogged": {
			`CREATE UNLOGGED TABLE notes.x (tenant_id bigint PRIMARY KEY); SELECT cell.protect('notes.x');`, "notes.x is unlogged or foreign",
		},
		"table of all": {
			`CREATE TABLE notes.x (id bigint); GRANT SELECT ON notes.x TO cell_app;`, "notes.x is open to the application and has no tenant_id",
		},
		"view": {
			`CREATE VIEW notes.x AS SELECT * FROM notes.note; GRANT SELECT ON notes.x TO cell_app;`, "notes.x is a view that does not",
		},
		"column of a view": {
			`CREATE VIEW notes.x AS SELECT * FROM notes.note; GRANT SELECT (text) ON notes.x TO cell_app;`, "notes.x is a view that does not",
		},
		"column of a table of all": {
			`CREATE TABLE notes.x (id bigint); GRANT UPDATE (id) ON notes.x TO cell_app;`, "notes.x is open to the application and has no tenant_id",
		},
		"function beside the gate": {
			`CREATE FUNCTION cell.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM notes.note';`, "cell.f() runs with its owner's rights",
		},
		"function": {
			`CREATE FUNCTION notes.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM notes.note';`, "notes.f() runs with its owner's rights",
		},
		"function of a trigger": {
			`CREATE FUNCTION notes.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN NEW.text = (SELECT string_agg(text, '','') FROM notes.note); RETURN NEW; END';
			 REVOKE EXECUTE ON FUNCTION notes.f() FROM PUBLIC; CREATE TRIGGER f BEFORE INSERT ON notes.note FOR EACH ROW EXECUTE FUNCTION notes.f();`,
			"notes.f() runs with its owner's rights",
		},
		"truncate": {`GRANT TRUNCATE ON notes.note TO cell_app;`, "may truncate"},
		"create":   {`GRANT CREATE ON SCHEMA notes TO PUBLIC;`, "may create in schema notes"},
		"fence":    {`GRANT SELECT ON cell.fence TO PUBLIC;`, "has rights on cell.fence"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			owner := testkit.Postgres(t)
			err := store.Prepare(t.Context(), owner, appURL(t, owner), notes{ddl: tt.ddl})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("prepare: got %v, want %q", err, tt.want)
			}
			if _, err := store.Open(t.Context(), appURL(t, owner), store.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("open: got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUnsafeRolesAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ sql, want string }{
		"bypass":       {`ALTER ROLE %s BYPASSRLS`, "may bypass row security"},
		"createrole":   {`ALTER ROLE %s CREATEROLE`, "create roles"},
		"owner":        {`ALTER TABLE cell.outbox OWNER TO %s`, "owns cell.outbox"},
		"member":       {`GRANT cell_scan TO %s`, "is a member of cell_scan"},
		"reads it all": {`GRANT pg_read_all_data TO %s`, "is a member of pg_read_all_data"},
		"reads files":  {`GRANT pg_read_server_files TO %s`, "is a member of pg_read_server_files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, owner := open(t)
			app := "app" + owner.Config().Database
			if _, err := owner.Exec(t.Context(), strings.ReplaceAll(tt.sql, "%s", app)); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), appURL(t, owner.Config().ConnString()), store.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("superuser", func(t *testing.T) {
		t.Parallel()
		_, owner := open(t)
		if _, err := store.Open(t.Context(), owner.Config().ConnString(), store.Options{}); err == nil || !strings.Contains(err.Error(), "is superuser") {
			t.Errorf("open as superuser: got %v", err)
		}
		if err := store.Prepare(t.Context(), owner.Config().ConnString(), owner.Config().ConnString()); err == nil {
			t.Error("prepare with the owner as the application passed")
		}
	})
}

// Several processes of a cell start at once, several cells share a server in tests.
func TestPrepareMayBeRepeatedAndRunAtOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 2 {
		owner := testkit.Postgres(t)
		for range 3 {
			wg.Go(func() {
				if err := store.Prepare(t.Context(), owner, appURL(t, owner), notes{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// bare is a module that only reacts: it has no tables.
type bare struct{}

func (bare) Name() string      { return "bare" }
func (bare) Migrations() fs.FS { return nil }
func (bare) Tables() []string  { return nil }

func TestAModuleWithoutTables(t *testing.T) {
	t.Parallel()
	owner := testkit.Postgres(t)
	for range 2 {
		if err := store.Prepare(t.Context(), owner, appURL(t, owner), notes{}, bare{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A managed database gives no superuser: its owner with CREATEROLE is enough.
func TestPrepareAsAnOwnerWithoutSuperuser(t *testing.T) {
	t.Parallel()
	super := testkit.Postgres(t)
	conn, err := pgx.Connect(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	db := conn.Config().Database
	for _, sql := range []string{
		`CREATE ROLE own` + db + ` LOGIN CREATEROLE PASSWORD 'secret'`, `ALTER DATABASE ` + db + ` OWNER TO own` + db,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	owner := testkit.SetUser(t, super, "own"+db, "secret")
	for range 2 {
		if err := store.Prepare(t.Context(), owner, appURL(t, super), notes{}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(t.Context(), appURL(t, super), store.Options{Cell: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	admit(t, s, 1)
	if err := s.InTenant(t.Context(), 1, 1, write(1, "x")); err != nil {
		t.Error(err)
	}
}
