package transfer_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// A slowNotes is notes whose second release, once it has changed the rows that are there, lasts until nobody has the lock 4711.
type slowNotes struct{ notes }

func (slowNotes) Migrations() fs.FS {
	files := notes{2}.Migrations().(fstest.MapFS)
	second := files["00002_louder.sql"]
	second.Data = append(second.Data, "\nSET LOCAL lock_timeout = 0;\nSELECT pg_advisory_xact_lock(4711);\n"...)
	return files
}

// noted is two cells of the first release of notes, between which the tenant is about to be frozen.
func noted(t *testing.T) (a, b *cell) {
	t.Helper()
	a, b = newCell(t, "a", ""), newCell(t, "b", "")
	a.update(t, "a", 1)
	b.update(t, "b", 1)
	_, err := fence.Admit(t.Context(), a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO notes.note VALUES (7, 1, 'hush')`))
	must(t, b.Reserve(t.Context(), there))
	must(t, a.Arm(t.Context(), there, wait))
	_, err = round(t, a, b, there, false)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO notes.note VALUES (7, 2, 'late')`))
	return a, b
}

// TestALastRoundIsOfTheSameMigrations: rows that come to a cell behind a migration that has changed those that were there, or
// before one that the source has had, would miss it, or get it twice.
func TestALastRoundIsOfTheSameMigrations(t *testing.T) {
	t.Parallel()
	for name, migrate := range map[string]func(t *testing.T, a, b *cell){
		"at the target": func(t *testing.T, _, b *cell) { b.update(t, "b", 2) },
		"at the source": func(t *testing.T, a, _ *cell) { a.update(t, "a", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := noted(t)
			migrate(t, a, b)
			must(t, a.Freeze(t.Context(), there, wait))
			if got, err := round(t, a, b, there, true); !errors.Is(err, problem.Conflict) {
				t.Errorf("got %+v, %v, want a conflict", got, err)
			}
		})
	}
}

// TestNoLastRoundMeetsAMigration: what a migration that is under way does with the rows that it has found it does not
// with those that come meanwhile, and its end would not tell.
func TestNoLastRoundMeetsAMigration(t *testing.T) {
	t.Parallel()
	a, b := noted(t)
	ctx := t.Context()
	exec := func(sql string) {
		t.Helper()
		_, err := b.owner.Exec(ctx, sql)
		must(t, err)
	}
	exec(`SELECT pg_advisory_lock(4711)`)
	owner, done := b.owner.Config().ConnString(), make(chan error, 1)
	app := as(t, owner, "app_b")
	go func() { done <- store.Prepare(ctx, owner, app, slowNotes{}) }()
	const waits = `SELECT count(*)::int FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted`
	for waiting := 0; waiting == 0; {
		must(t, b.owner.QueryRow(ctx, waits).Scan(&waiting))
	}
	must(t, a.Freeze(ctx, there, wait))
	if got, err := round(t, a, b, there, true); !errors.Is(err, problem.Unavailable) {
		t.Errorf("meanwhile: got %+v, %v, want unavailable", got, err)
	}
	var look transfer.Preflight
	if _, err := look.Report(ctx, b.mover, mover, false); !errors.Is(err, problem.Unavailable) {
		t.Errorf("preflight: got %v, want unavailable", err)
	}
	exec(`SELECT pg_advisory_unlock(4711)`)
	must(t, <-done)
	if got, err := round(t, a, b, there, true); !errors.Is(err, problem.Conflict) {
		t.Errorf("after it: got %+v, %v, want a conflict", got, err)
	}
}
