package store_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

const (
	insertNote = `INSERT INTO notes.note (tenant_id, id, text) VALUES (1, $1, 'x')`
	countNotes = `SELECT count(*) FROM notes.note`
)

// A bomb is a value that cannot be written down.
type bomb struct{}

func (bomb) Value() (driver.Value, error) { panic("boom") }

func TestQueuedStatementsGoWithTheCommit(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	boom := errors.New("boom")
	in := func(f func(ctx context.Context, tx *store.Tx) error) error { return s.InTenant(t.Context(), 1, 1, f) }

	if err := in(func(ctx context.Context, tx *store.Tx) error {
		tx.QueueLast(`UPDATE notes.note SET text = 'last of all' WHERE text = 'in order'`)
		tx.Queue(`INSERT INTO notes.note (tenant_id, id, text) SELECT 1, 1 + count(*), 'last' FROM notes.note`)
		tx.Queue(`UPDATE notes.note SET text = 'in order' WHERE text = 'last'`)
		return write(1, "before")(ctx, tx)
	}); err != nil {
		t.Fatal(err)
	}
	if err := in(func(ctx context.Context, tx *store.Tx) error {
		var text string
		err := tx.QueryRow(ctx, `SELECT text FROM notes.note WHERE id = 2`).Scan(&text)
		if text != "last of all" {
			t.Errorf("got %q", text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		f    func(ctx context.Context, tx *store.Tx) error
		code string
		is   error
	}{
		"one fails": {code: "23505", f: func(_ context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, 3)
			tx.Queue(insertNote, 1)
			tx.Queue(insertNote, 4)
			return nil
		}},
		"an argument that is no number": {code: "22P02", f: func(ctx context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, "no number")
			return write(3, "x")(ctx, tx)
		}},
		"an argument that is too large to send": {is: store.ErrArgument, f: func(ctx context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT $1::int4`, int64(1)<<40)
			return write(3, "x")(ctx, tx)
		}},
		"an argument that panics": {is: store.ErrArgument, f: func(_ context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, 3)
			tx.Queue(insertNote, bomb{})
			return nil
		}},
		"the same behind another statement": {is: store.ErrArgument, f: func(_ context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, 3)
			tx.Queue(`SELECT $1::int4`, int64(1)<<40)
			return nil
		}},
		"an error before": {is: boom, f: func(_ context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, 3)
			return boom
		}},
		"an error of the database before, swallowed": {code: "25P02", f: func(ctx context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, 3)
			_, _ = tx.Exec(ctx, `SELECT 1 / 0`)
			return nil
		}},
	} {
		err := in(c.f)
		if err == nil || (c.code != "" && pg.Code(err) != c.code) || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := count(t, s, 1); got != 2 {
			t.Fatalf("%s: %d rows are left, want 2", name, got)
		}
	}
}

// TestAPartThatFailsIsUndone with what it has queued, and what is around it stays.
func TestAPartThatFailsIsUndone(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	boom := errors.New("boom")
	all := func(id int) func(ctx context.Context, tx *store.Tx) error {
		return func(ctx context.Context, tx *store.Tx) error {
			tx.Queue(insertNote, id)
			tx.QueueLast(insertNote, id+1)
			return write(id+2, "x")(ctx, tx)
		}
	}
	err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		if err := all(10)(ctx, tx); err != nil {
			return err
		}
		if err := tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(all(20)(ctx, tx), tx.Savepoint(ctx, all(30)), boom)
		}); !errors.Is(err, boom) {
			t.Errorf("an error: got %v", err)
		}
		if err := tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(all(40)(ctx, tx), write(10+2, "there already")(ctx, tx))
		}); pg.Code(err) != "23505" {
			t.Errorf("a statement's error: got %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
				_ = all(50)(ctx, tx)
				panic(boom)
			})
		}()
		return tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
			failed := tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error { return errors.Join(all(60)(ctx, tx), boom) })
			if !errors.Is(failed, boom) {
				t.Errorf("a part of a part: got %v", failed)
			}
			return all(70)(ctx, tx)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids string
	if err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT string_agg(id::text, ' ' ORDER BY id) FROM notes.note`).Scan(&ids)
	}); err != nil || ids != "10 11 12 70 71 72" {
		t.Errorf("got %s, %v", ids, err)
	}

	// Also where its context is over.
	if err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		over, cancel := context.WithCancel(ctx)
		if err := tx.Savepoint(over, func(ctx context.Context, tx *store.Tx) error {
			defer cancel()
			return errors.Join(write(80, "x")(ctx, tx), boom)
		}); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		return write(81, "x")(ctx, tx)
	}); err != nil || count(t, s, 1) != 7 {
		t.Errorf("got %v and %d rows, want 7", err, count(t, s, 1))
	}
}

// Whatever is known beforehand goes out with BEGIN, and behind a refusal nothing runs.
func TestStatementsBehindTheFence(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	ctx, called := t.Context(), 0
	add := func(id int) func(*pgx.Batch) { return func(b *pgx.Batch) { b.Queue(insertNote, id) } }
	counted := func(_ context.Context, tx *store.Tx) error {
		called++
		tx.Queue(insertNote, 9)
		return nil
	}
	refused := func(err error) bool { return errors.Is(err, problem.Stale) }
	duplicate := func(err error) bool { return pg.Code(err) == "23505" }
	done := func(err error) bool { return err == nil }

	for _, step := range []struct {
		name string
		err  error
		want func(error) bool
	}{
		{"first, at another epoch", s.InTenantFirst(ctx, 1, 2, add(1), counted), refused},
		{"all, at another epoch", s.Batch(ctx, 1, 2, add(1)), refused},
		{"all", s.Batch(ctx, 1, 1, func(b *pgx.Batch) { add(1)(b); add(2)(b) }), done},
		{"all, the last fails", s.Batch(ctx, 1, 1, func(b *pgx.Batch) { add(3)(b); add(1)(b) }), duplicate},
		{"first, it fails", s.InTenantFirst(ctx, 1, 1, add(1), counted), duplicate},
		{"another tenant's row", s.Batch(ctx, 2, 1, add(3)), refused},
	} {
		if !step.want(step.err) {
			t.Errorf("%s: got %v", step.name, step.err)
		}
	}
	if got := count(t, s, 1); got != 2 || called != 0 {
		t.Errorf("%d rows and %d calls, want 2 and 0", got, called)
	}
	seen := -1
	if err := s.InTenantFirst(ctx, 1, 1, func(b *pgx.Batch) {
		add(3)(b)
		b.Queue(countNotes).QueryRow(func(row pgx.Row) error { return row.Scan(&seen) })
	}, counted); err != nil || seen != 3 || called != 1 || count(t, s, 1) != 4 {
		t.Errorf("got %v, saw %d rows before, called %d times, %d rows", err, seen, called, count(t, s, 1))
	}
}
