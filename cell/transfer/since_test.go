package transfer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

// TestRoundReadsOnlyWhatIsNew: what a round reads of the noted keys does not grow
// with those that were noted before, so that the way back of a busy tenant gets
// short enough to begin the pause.
func TestRoundReadsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	ctx := t.Context()
	must(t, a.Arm(ctx, there, wait))
	for range 20 {
		_, err := a.owner.Exec(ctx, `INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT 7, 'app.thing', to_jsonb(ARRAY[n::text]) FROM generate_series(1, 1000) n`)
		must(t, err)
	}
	// The server is shared: a transaction of another test, older than the keys, would
	// make them count as perhaps not seen. Wait for a snapshot without one.
	const clean = `
		SELECT pg_current_snapshot()::text, pg_snapshot_xmin(pg_current_snapshot()) > d.xid
		  FROM cell.dirty d WHERE d.tenant_id = 7 ORDER BY d.xid DESC LIMIT 1`
	var since string
	for newer := false; !newer; {
		must(t, a.owner.QueryRow(ctx, clean).Scan(&since, &newer))
		select {
		case <-ctx.Done():
			t.Fatal("a transaction of the server does not end")
		case <-time.After(10 * time.Millisecond):
		}
	}
	must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = 7`))
	for _, read := range []struct {
		sql  string
		args []any
	}{{transfer.Touched, []any{int64(mover), since}}, {transfer.Noted, []any{int64(mover), since, 2001}}} {
		if n, how := testkit.RowsRead(t, a.owner, read.sql, read.args...); n < 1 || n > 100 {
			t.Errorf("a round with one change read %v noted keys of 20,001:\n%s", n, how)
		}
	}
}

// TestARoundIsOnDiskBeforeItCounts: what a round's snapshot has seen end must not be forgotten by
// a server that is killed right after, also what was rolled back: it would give the numbers to
// other transactions, whose notes would be taken for seen.
func TestARoundIsOnDiskBeforeItCounts(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	_, err := a.owner.Exec(ctx, `CREATE TABLE public.scratch (n integer)`)
	must(t, err)
	for range 3 {
		_, err = a.owner.Exec(ctx, `BEGIN; INSERT INTO public.scratch SELECT generate_series(1, 1000); ROLLBACK`)
		must(t, err)
		var ended string
		must(t, a.owner.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&ended))
		_, err = round(t, a, b, there, false)
		must(t, err)
		var onDisk bool
		must(t, a.owner.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, ended).Scan(&onDisk))
		if !onDisk {
			t.Error("a round counts that the disk does not have")
		}
	}
}

// TestCopiesLeaveRoomForRounds: a cell makes so many copies at once that rounds, which may be the
// last ones of tenants that wait, get a connection.
func TestCopiesLeaveRoomForRounds(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	var ends []func()
	for range 6 {
		end, err := a.source.Copying()
		must(t, err)
		ends = append(ends, end)
	}
	if _, err := a.source.Copying(); !errors.Is(err, problem.Unavailable) {
		t.Errorf("a seventh: got %v", err)
	}
	ends[0]()
	_, err := a.source.Copying()
	must(t, err)
}

// TestAnAcceptedTenantIsActive: where the target's database was promoted after the decision and an
// operator accepts what it has, the tenant is served at the move's epoch for no move. That is what
// the move wanted.
func TestAnAcceptedTenantIsActive(t *testing.T) {
	t.Parallel()
	_, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	_, err := b.owner.Exec(ctx, `UPDATE cell.fence SET state = 'active', move_id = NULL WHERE tenant_id = $1`, mover)
	must(t, err)
	must(t, b.Activate(ctx, there))
	other := there
	other.Base = 7
	if err := b.Activate(ctx, other); err == nil {
		t.Error("a move to a later epoch has arrived")
	}
}
