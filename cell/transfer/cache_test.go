package transfer_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/pg"
)

// A slowDB stops before the second question for the catalog's version, which comes after
// the list of tables was read.
type slowDB struct {
	pg.DB
	questions int
	reached   chan struct{}
	goOn      chan struct{}
}

func (d *slowDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if d.questions++; d.questions == 2 {
		close(d.reached)
		<-d.goOn
	}
	return d.DB.QueryRow(ctx, sql, args...)
}

// TestTheOlderOfTwoAnswersIsNotKept: two rounds ask for the tables at once, and the one
// that has read them before they were altered is answered last. It neither keeps the other
// waiting nor takes the place of what that has found; nor does it bring back what a
// refusal of the server has made the cache forget.
func TestTheOlderOfTwoAnswersIsNotKept(t *testing.T) {
	t.Parallel()
	c := newCell(t, "a", `CREATE SCHEMA app; CREATE TABLE app.note (tenant_id bigint NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id))`, "app.note")
	ctx := t.Context()
	var cache transfer.TableCache
	// overtaken asks, and has what happens meanwhile happen before the answer is kept.
	overtaken := func(meanwhile func()) []transfer.Table {
		t.Helper()
		slow := &slowDB{DB: c.mover, reached: make(chan struct{}), goOn: make(chan struct{})}
		answer := make(chan []transfer.Table, 1)
		go func() {
			list, err := cache.Get(ctx, slow, true)
			if err != nil {
				t.Error(err)
			}
			answer <- list
		}()
		<-slow.reached
		meanwhile()
		close(slow.goOn)
		return <-answer
	}
	kept := func(db pg.DB) []transfer.Table {
		t.Helper()
		list, err := cache.Get(ctx, db, false)
		must(t, err)
		return list
	}
	columns := func(list []transfer.Table) (n int) {
		i := slices.IndexFunc(list, func(t transfer.Table) bool { return t.Name == "app.note" })
		if i < 0 {
			t.Fatalf("no table app.note in %+v", list)
		}
		return len(list[i].Columns)
	}

	older := overtaken(func() {
		_, err := c.owner.Exec(ctx, `ALTER TABLE app.note ADD extra integer`)
		must(t, err)
		newer, err := cache.Get(ctx, c.mover, true)
		must(t, err)
		if columns(newer) != 3 {
			t.Errorf("who asks after the change: got %d columns", columns(newer))
		}
	})
	if columns(older) != 2 || columns(kept(nil)) != 3 { // nil: it must not ask
		t.Errorf("got %d columns before the change and kept %d, want 2 and 3", columns(older), columns(kept(nil)))
	}

	_, err := c.owner.Exec(ctx, `ALTER TABLE app.note DROP extra`)
	must(t, err)
	overtaken(func() {
		_, err := c.owner.Exec(ctx, `ALTER TABLE app.note ADD other text, ADD another text`)
		must(t, err)
		cache.Refused(&pgconn.PgError{Code: "0A000"}) // "cached plan must not change result type"
	})
	if n := columns(kept(c.mover)); n != 4 {
		t.Errorf("after a refusal: got %d columns, want what is there now", n)
	}
}
