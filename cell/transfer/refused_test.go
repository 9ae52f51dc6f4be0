package transfer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// TestARowThatTheTargetRefusesEndsTheMove: what its Postgres refuses for its content it
// will refuse again, by COPY and row by row, and the reason names no value of the tenant's.
func TestARowThatTheTargetRefusesEndsTheMove(t *testing.T) {
	t.Parallel()
	const ddl = oneTable + `k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));`
	for name, alter := range map[string]string{
		"a check": `ALTER TABLE app.one ADD CONSTRAINT none CHECK (v <> 'secret')`,
		"a value": `CREATE FUNCTION app.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM NEW.v::int; RETURN NEW; END $$;
			CREATE TRIGGER no BEFORE INSERT ON app.one FOR EACH ROW EXECUTE FUNCTION app.no(); ALTER TABLE app.one ENABLE ALWAYS TRIGGER no`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
			_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
			must(t, err)
			must(t, b.Reserve(ctx, there))
			must(t, a.Arm(ctx, there, wait))
			refused := func(m transfer.Move, when string) {
				t.Helper()
				_, err := round(t, a, b, m, false)
				p, _ := errors.AsType[*problem.Error](err)
				if p == nil || p.Kind != problem.Conflict || strings.Contains(p.Detail, "secret") || !strings.Contains(p.Detail, "app.one") {
					t.Errorf("%s: got %v, want a conflict that names the table and no value", when, err)
				}
			}
			const row = `INSERT INTO app.one (tenant_id, k, v) VALUES (7, 1, 'secret')`
			_, err = round(t, a, b, there, false)
			must(t, err)
			_, err = b.owner.Exec(ctx, alter)
			must(t, err)
			must(t, a.do(t, mover, 1, row))
			refused(there, "a round of few rows")
			must(t, a.Release(ctx, there))
			must(t, b.Discard(ctx, there))
			again := there
			again.ID, again.Base = "mv_2", 3
			must(t, b.Reserve(ctx, again))
			must(t, a.Arm(ctx, again, wait))
			refused(again, "a copy")
		})
	}
}
