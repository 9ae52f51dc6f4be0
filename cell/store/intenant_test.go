package store_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// A notes module has one tenant table, or whatever ddl makes.
type notes struct{ ddl string }

const notesTable = `CREATE TABLE notes.note (tenant_id bigint NOT NULL, id bigint NOT NULL, text text NOT NULL, PRIMARY KEY (tenant_id, id));`

func (notes) Name() string     { return "notes" }
func (notes) Tables() []string { return []string{"notes.note"} }
func (n notes) Migrations() fs.FS {
	return fstest.MapFS{"00001_note.sql": {Data: []byte("-- +goose Up\n" + notesTable + n.ddl)}}
}

func write(id int, text string) func(context.Context, *store.Tx) error {
	return func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO notes.note (tenant_id, id, text) VALUES ($1, $2, $3)`, tx.Tenant, id, text)
		return err
	}
}

func count(tb testing.TB, s *store.Store, t directory.TenantID) (n int) {
	tb.Helper()
	err := s.InTenant(tb.Context(), t, 1, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM notes.note`).Scan(&n)
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func TestATransactionSeesItsTenantOnly(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1, 2)
	for tenant := directory.TenantID(1); tenant <= 2; tenant++ {
		if err := s.InTenant(t.Context(), tenant, 1, write(1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(t, s, 1); got != 1 {
		t.Errorf("tenant 1 sees %d rows, want 1", got)
	}
	for name, sql := range map[string]string{
		"insert": `INSERT INTO notes.note (tenant_id, id, text) VALUES (2, 9, 'x')`,
		"update": `UPDATE notes.note SET tenant_id = 2`,
	} {
		err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		})
		if err == nil {
			t.Errorf("%s into another tenant passed", name)
		}
	}
	err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM notes.note WHERE tenant_id = 2`)
		if tag.RowsAffected() != 0 {
			t.Errorf("deleted %d rows of another tenant", tag.RowsAffected())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if got := count(t, s, 2); got != 1 {
		t.Errorf("tenant 2 has %d rows, want 1", got)
	}
}

func TestOutsideATransactionNothingIsSeen(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	if err := s.InTenant(t.Context(), 1, 1, write(1, "x")); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.DB().QueryRow(t.Context(), `SELECT count(*) FROM notes.note`).Scan(&n); err != nil || n != 0 {
		t.Errorf("got %d rows, %v", n, err)
	}
	if _, err := s.DB().Exec(t.Context(), `INSERT INTO notes.note VALUES (1, 2, 'x')`); err == nil {
		t.Error("a write without a tenant passed")
	}
	for _, sql := range []string{
		`SELECT * FROM cell.fence`, `UPDATE cell.fence SET epoch = 9`, `INSERT INTO cell.fence VALUES (5, 1, 'active')`,
		`TRUNCATE notes.note`, `SELECT cell.protect('notes.note')`, `CREATE TABLE notes.other (id int)`, `SET ROLE cell_fence`,
		`CREATE TEMPORARY TABLE x (id int)`, `ALTER TABLE notes.note DISABLE ROW LEVEL SECURITY`,
	} {
		if _, err := s.DB().Exec(t.Context(), sql); pg.Code(err) != pg.InsufficientRights {
			t.Errorf("%s: got %v, want no right to", sql, err)
		}
	}
}

func TestTheGuardHoldsForTheOwner(t *testing.T) {
	t.Parallel()
	s, owner := open(t, notes{})
	admit(t, s, 1)
	if err := s.InTenant(t.Context(), 1, 1, write(1, "x")); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`INSERT INTO notes.note VALUES (1, 2, 'x')`, `UPDATE notes.note SET text = 'y'`, `DELETE FROM notes.note`, `TRUNCATE notes.note`,
		`SET session_replication_role = replica; DELETE FROM notes.note`,
	} {
		if _, err := owner.Exec(t.Context(), sql); pg.Code(err) != "CF010" {
			t.Errorf("%s: got %v, want the guard", sql, err)
		}
	}
	_, err := owner.Exec(t.Context(), `BEGIN; SET LOCAL cell.tenant = '1'; UPDATE notes.note SET text = 'y'; COMMIT`)
	if err != nil {
		t.Errorf("as the tenant: %v", err)
	}
}

func TestTheFenceRefusesBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	s, owner := open(t, notes{})
	admit(t, s, 1)
	for _, sql := range []string{
		`INSERT INTO cell.fence (tenant_id, epoch, state, moved_to) VALUES (2, 7, 'moved', 'c2')`,
		`INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (3, 4, 'suspect')`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		tenant directory.TenantID
		epoch  directory.Epoch
		kind   problem.Kind
		want   fence.Fence
	}{
		{1, 2, problem.Stale, fence.Fence{State: fence.Active, Epoch: 1}},
		{2, 6, problem.Stale, fence.Fence{State: fence.Moved, Epoch: 7, MovedTo: "c2"}},
		{2, 7, problem.Stale, fence.Fence{State: fence.Moved, Epoch: 7, MovedTo: "c2"}},
		{3, 4, problem.Unavailable, fence.Fence{State: fence.Suspect, Epoch: 4}},
		{4, 1, problem.Stale, fence.Fence{State: fence.Absent}},
	} {
		called := false
		err := s.InTenant(t.Context(), tt.tenant, tt.epoch, func(context.Context, *store.Tx) error {
			called = true
			return nil
		})
		got, ok := fence.Refused(err)
		if !errors.Is(err, tt.kind) || !ok || got != tt.want || called {
			t.Errorf("tenant %d at %d: got %v (%+v), called %v, want %s %+v", tt.tenant, tt.epoch, err, got, called, tt.kind, tt.want)
		}
	}
	for _, id := range []directory.TenantID{0, -1, 1 << 56} {
		if err := s.InTenant(t.Context(), id, 1, write(1, "x")); pg.Code(err) != "22023" {
			t.Errorf("tenant %d: got %v, want out of range", id, err)
		}
	}
}

func TestATransactionBelongsToOneTenant(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1, 2)
	err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `SELECT cell.enter(2, 1)`)
		return err
	})
	if pg.Code(err) != "CF003" {
		t.Errorf("got %v, want CF003", err)
	}
}

func TestCommitAndRollback(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	boom := errors.New("boom")
	fails := func(f func(ctx context.Context, tx *store.Tx) error) error {
		return s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
			if err := write(1, "x")(ctx, tx); err != nil {
				return err
			}
			return f(ctx, tx)
		})
	}
	t.Run("an error rolls back", func(t *testing.T) {
		if err := fails(func(context.Context, *store.Tx) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a panic rolls back and goes on", func(t *testing.T) {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic was swallowed")
			}
		}()
		_ = fails(func(context.Context, *store.Tx) error { panic("boom") })
	})
	t.Run("a swallowed error of the database is an error of the commit", func(t *testing.T) {
		err := fails(func(ctx context.Context, tx *store.Tx) error {
			_, _ = tx.Exec(ctx, `SELECT 1 / 0`)
			return nil
		})
		if !errors.Is(err, pgx.ErrTxCommitRollback) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a transaction ended from within is an error", func(t *testing.T) {
		err := fails(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `ROLLBACK`)
			return err
		})
		if err == nil {
			t.Error("got nil")
		}
	})
	t.Run("rows left open", func(t *testing.T) {
		err := fails(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Query(ctx, `SELECT generate_series(1, 100000)`) //nolint:rowserrcheck,sqlclosecheck // the mistake is the test
			return err
		})
		if err == nil {
			t.Error("got nil")
		}
	})
	if got := count(t, s, 1); got != 0 {
		t.Errorf("%d rows are left, want 0", got)
	}
	var kept *store.Tx
	if err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		kept = tx
		return write(1, "x")(ctx, tx)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Exec(t.Context(), `SELECT 1`); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("a transaction used after its end: got %v", err)
	}
	if got := count(t, s, 1); got != 1 {
		t.Errorf("got %d rows, want 1", got)
	}
}

// X30: whatever happened to a connection, its next borrower has no tenant.
func TestNoTenantIsLeftInThePool(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1, 2, 3)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 60 {
				abuse(t.Context(), s, directory.TenantID(1+(worker+i)%3), worker*1000+i)
				var n int
				var tenant string
				err := s.DB().QueryRow(t.Context(), `SELECT count(*), coalesce(current_setting('cell.tenant', true), '')
					FROM notes.note`).Scan(&n, &tenant)
				if err != nil || n != 0 || tenant != "" {
					t.Errorf("the next borrower sees %d rows as tenant %q, %v", n, tenant, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// abuse runs a transaction that ends in one of many ways.
func abuse(ctx context.Context, s *store.Store, tenant directory.TenantID, id int) {
	defer func() { _ = recover() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	how := rand.N(7)
	_ = s.InTenant(ctx, tenant, 1, func(ctx context.Context, tx *store.Tx) error {
		if err := write(id, strconv.Itoa(how))(ctx, tx); err != nil {
			return err
		}
		switch how {
		case 0:
			return errors.New("boom")
		case 1:
			panic("boom")
		case 2:
			cancel()
		case 3:
			time.AfterFunc(time.Millisecond, cancel)
			_, err := tx.Exec(ctx, `SELECT pg_sleep(1)`)
			return err
		case 4:
			_, _ = tx.Exec(ctx, `SELECT 1 / 0`)
		case 5:
			_, _ = tx.Exec(ctx, `COMMIT`)
		}
		return nil
	})
}

func TestACallerThatWentAwayIsNoErrorOfTheDatabase(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.InTenant(gone, 1, 1, write(1, "x")); !errors.Is(err, context.Canceled) || errors.Is(err, problem.Unavailable) {
		t.Errorf("cancelled: got %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := s.InTenant(late, 1, 1, write(1, "x")); !errors.Is(err, problem.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: got %v", err)
	}
}
