package transfer_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/transfer"
)

// TestVerifyComparesAsForeignKeysDo: one of an extension's type finds its row also where the text is another, and the columns
// may have two collations. One of a single partition is verified, too.
func TestVerifyComparesAsForeignKeysDo(t *testing.T) {
	t.Parallel()
	const ddl = `
		CREATE SCHEMA app;
		GRANT USAGE ON SCHEMA app TO cell_app;
		DO $$
		DECLARE
			kind text := 'text';
		BEGIN
			IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext') THEN
				CREATE EXTENSION citext SCHEMA public;
				kind := 'public.citext';
			END IF;
			EXECUTE format('CREATE TABLE app.team (tenant_id bigint NOT NULL, name %1$s NOT NULL, code text COLLATE "C" NOT NULL, PRIMARY KEY (tenant_id, name), UNIQUE (tenant_id, code))', kind);
			EXECUTE format('CREATE TABLE app.member (tenant_id bigint NOT NULL, id integer NOT NULL, team %1$s, code text COLLATE "POSIX", PRIMARY KEY (tenant_id, id),
				CONSTRAINT by_name FOREIGN KEY (tenant_id, team) REFERENCES app.team, CONSTRAINT by_code FOREIGN KEY (tenant_id, code) REFERENCES app.team (tenant_id, code))', kind);
		END $$;
		CREATE TABLE app.shirt (tenant_id bigint NOT NULL, id integer NOT NULL, code text COLLATE "C", PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (id);
		CREATE TABLE app.shirt_0 PARTITION OF app.shirt FOR VALUES WITH (MODULUS 1, REMAINDER 0);
		ALTER TABLE app.shirt_0 ADD CONSTRAINT of_team FOREIGN KEY (tenant_id, code) REFERENCES app.team (tenant_id, code);`
	ctx := t.Context()
	tables := []string{"app.team", "app.member", "app.shirt"}
	a, b := newCell(t, "a", ddl, tables...), newCell(t, "b", ddl, tables...)
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	var folds bool
	must(t, a.owner.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citext')`).Scan(&folds))
	team := map[bool]string{true: "rED", false: "Red"}[folds]
	must(t, a.do(t, mover, 1, `INSERT INTO app.team VALUES (7, 'Red', 'r')`))
	must(t, a.do(t, mover, 1, `INSERT INTO app.member VALUES (7, 1, '`+team+`', 'r')`))
	must(t, a.do(t, mover, 1, `INSERT INTO app.shirt VALUES (7, 1, 'r')`))
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	got, err := transfer.Verify(ctx, b.mover, step)
	must(t, err)
	if len(got) > 0 {
		t.Errorf("findings in a sound copy: %+v", got)
	}
	must(t, pgx.BeginFunc(ctx, b.mover, func(tx pgx.Tx) error {
		for _, sql := range []string{`SELECT cell.enter_move(7, 'mv_1', 2, '{incoming}')`, `SET LOCAL session_replication_role = replica`, `DELETE FROM app.team WHERE tenant_id = 7`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	}))
	got, err = transfer.Verify(ctx, b.mover, step)
	must(t, err)
	if len(got) != 3 {
		t.Errorf("findings without what three foreign keys point at: %+v", got)
	}
}
