package fence_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// open is a prepared database of its own, with its owner's connection.
func open(tb testing.TB) (*store.Store, *pgx.Conn) {
	tb.Helper()
	owner := storetest.Postgres(tb)
	conn, err := pgx.Connect(tb.Context(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	app := testkit.SetUser(tb, owner, "app"+conn.Config().Database, "secret")
	if err := store.Prepare(tb.Context(), owner, app); err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(tb.Context(), app, store.Options{Cell: "c1"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close(context.Background())
		s.Close()
	})
	return s, conn
}

func nothing(context.Context, *store.Tx) error { return nil }

func admit(tb testing.TB, s *store.Store, t directory.TenantID) {
	tb.Helper()
	if f, err := fence.Admit(tb.Context(), s.DB(), t, 1); err != nil || f.State != fence.Active || f.Epoch != 1 {
		tb.Fatalf("admit: got %+v, %v", f, err)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	s, owner := open(t)
	ctx := t.Context()
	if f, err := fence.Get(ctx, s.DB(), 1); err != nil || f != (fence.Fence{Tenant: 1, State: fence.Absent}) {
		t.Errorf("before: got %+v, %v", f, err)
	}
	if f, err := fence.Admit(ctx, s.DB(), 1, 2); err != nil || f.State != fence.Absent {
		t.Errorf("at epoch 2: got %+v, %v, want absent", f, err)
	}
	admit(t, s, 1)
	admit(t, s, 1)

	if _, err := owner.Exec(ctx, `INSERT INTO cell.fence (tenant_id, epoch, state, moved_to) VALUES (2, 2, 'moved', 'c2')`); err != nil {
		t.Fatal(err)
	}
	want := fence.Fence{Tenant: 2, Epoch: 2, State: fence.Moved, MovedTo: "c2"}
	if f, err := fence.Admit(ctx, s.DB(), 2, 1); err != nil || f != want {
		t.Errorf("over a tombstone: got %+v, %v, want %+v", f, err, want)
	}
	err := s.InTenant(ctx, 2, 1, nothing)
	if f, ok := fence.Refused(err); !ok || f.State != fence.Moved || !errors.Is(err, problem.Stale) || fence.IsAbsent(err) {
		t.Errorf("got %v", err)
	}
	if err := s.InTenant(ctx, 3, 1, nothing); !fence.IsAbsent(err) {
		t.Errorf("got %v, want absent", err)
	}
}

func TestATombstoneRisesOnlyAtAHigherEpoch(t *testing.T) {
	t.Parallel()
	_, owner := open(t)
	if _, err := owner.Exec(t.Context(), `INSERT INTO cell.fence (tenant_id, epoch, state, moved_to) VALUES (1, 5, 'moved', 'c2')`); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		set string
		ok  bool
	}{
		{`epoch = 4`, false},
		{`state = 'active'`, false},
		{`state = 'incoming'`, false},
		{`tenant_id = 2`, false},
		{`state = 'incoming', epoch = 6, moved_to = NULL`, true},
	} {
		if _, err := owner.Exec(t.Context(), `UPDATE cell.fence SET `+tt.set); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", tt.set, err, tt.ok)
		}
	}
}

func TestFreezeAndActivate(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	admit(t, s, 1)
	for range 2 { // repeating it is no error
		if f, err := fence.Freeze(ctx, s.DB(), 1, 1, "mv1", time.Second); err != nil || f.Epoch != 2 || f.State != fence.Frozen {
			t.Fatalf("freeze: got %+v, %v", f, err)
		}
	}
	for name, err := range map[string]error{
		"freeze of another move":       second(fence.Freeze(ctx, s.DB(), 1, 1, "mv2", time.Second)),
		"freeze of another epoch":      second(fence.Freeze(ctx, s.DB(), 1, 2, "mv1", time.Second)),
		"freeze of nobody":             second(fence.Freeze(ctx, s.DB(), 9, 1, "mv1", time.Second)),
		"activate by another move":     second(fence.Activate(ctx, s.DB(), 1, 2, 3, "mv2", time.Second)),
		"activate from another epoch":  second(fence.Activate(ctx, s.DB(), 1, 1, 3, "mv1", time.Second)),
		"activate at a lower epoch":    second(fence.Activate(ctx, s.DB(), 1, 2, 1, "mv1", time.Second)),
		"activate what is not waiting": second(fence.Activate(ctx, s.DB(), 9, 2, 3, "mv1", time.Second)),
	} {
		if !errors.Is(err, problem.Conflict) {
			t.Errorf("%s: got %v, want a conflict", name, err)
		}
	}
	for _, e := range []directory.Epoch{1, 2} {
		if f, ok := fence.Refused(s.InTenant(ctx, 1, e, nothing)); !ok || f.State != fence.Frozen || f.Epoch != 2 {
			t.Errorf("enter at %d: got %+v, want frozen at 2", e, f)
		}
	}
	for range 2 {
		if f, err := fence.Activate(ctx, s.DB(), 1, 2, 3, "mv1", time.Second); err != nil || f.State != fence.Active || f.Epoch != 3 {
			t.Fatalf("activate: got %+v, %v", f, err)
		}
	}
	if err := s.InTenant(ctx, 1, 3, nothing); err != nil {
		t.Error(err)
	}
	if err := s.InTenant(ctx, 1, 1, nothing); !errors.Is(err, problem.Stale) {
		t.Errorf("at the old epoch: got %v", err)
	}
}

func second(_ fence.Fence, err error) error { return err }

func TestFreezeWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	admit(t, s, 1)
	admit(t, s, 2)
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var committed atomic.Bool
	go func() {
		left <- s.InTenant(ctx, 1, 1, func(context.Context, *store.Tx) error {
			close(inside)
			<-leave
			committed.Store(true) // not later than the commit that follows
			return nil
		})
	}()
	<-inside
	if _, err := fence.Freeze(ctx, s.DB(), 1, 1, "mv1", 50*time.Millisecond); !errors.Is(err, problem.Unavailable) {
		t.Fatalf("while a transaction is open: got %v, want unavailable", err)
	}
	if err := s.InTenant(ctx, 1, 1, nothing); err != nil {
		t.Errorf("a freeze that gave up must leave no trace: %v", err)
	}

	frozen := make(chan error, 1)
	go func() {
		_, err := fence.Freeze(ctx, s.DB(), 1, 1, "mv1", 20*time.Second)
		if !committed.Load() {
			t.Error("frozen while a transaction was open")
		}
		frozen <- err
	}()
	if err := s.InTenant(ctx, 2, 1, nothing); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	close(leave)
	if err := errors.Join(<-left, <-frozen); err != nil {
		t.Fatal(err)
	}
}

// A transaction whose snapshot is older than the freeze must not pass: it would
// read the fence as it was.
func TestOldSnapshotsDoNotPass(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	for i, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tenant := directory.TenantID(i + 1)
		admit(t, s, tenant)
		if err := s.InTenantWith(ctx, pgx.TxOptions{IsoLevel: level}, tenant, 1, nothing); err != nil {
			t.Fatalf("%s: %v", level, err)
		}
		// The same connection, so that the snapshot is there before the freeze.
		err := pgxTx(t, s, level, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT 1 FROM cell.incarnation`); err != nil {
				return err
			}
			if _, err := fence.Freeze(ctx, s.DB(), tenant, 1, "mv1", time.Second); err != nil {
				t.Fatal(err)
			}
			_, err := tx.Exec(ctx, `SELECT cell.enter($1, 1)`, tenant)
			return err
		})
		if pg.Code(err) != pg.SerializationFailure {
			t.Errorf("%s: got %v, want 40001", level, err)
		}
		if err := s.InTenantWith(ctx, pgx.TxOptions{IsoLevel: level}, tenant, 1, nothing); !errors.Is(err, problem.Stale) {
			t.Errorf("%s, after: got %v, want stale", level, err)
		}
	}
}

func pgxTx(tb testing.TB, s *store.Store, level pgx.TxIsoLevel, fn func(tx pgx.Tx) error) error {
	tb.Helper()
	db, ok := s.DB().(pg.Beginner)
	if !ok {
		tb.Fatal("the store's DB begins no transactions")
	}
	return pgx.BeginTxFunc(tb.Context(), db, pgx.TxOptions{IsoLevel: level}, fn)
}

// Writers at all isolation levels run against freezes; after each one the rows
// must not change any more. An old writer that slipped through would show.
func TestNothingPassesAfterAFreeze(t *testing.T) {
	t.Parallel()
	s, owner := open(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if _, err := owner.Exec(ctx, `CREATE SCHEMA n; GRANT USAGE ON SCHEMA n TO cell_app;
		CREATE TABLE n.n (tenant_id bigint PRIMARY KEY, v bigint NOT NULL); SELECT cell.protect('n.n');
		BEGIN; SET LOCAL cell.tenant = '1'; INSERT INTO n.n VALUES (1, 0); COMMIT`); err != nil {
		t.Fatal(err)
	}
	admit(t, s, 1)
	var epoch, acked atomic.Int64
	epoch.Store(1)
	var wg sync.WaitGroup
	for i := range 6 {
		level := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}[i%3]
		wg.Go(func() {
			for ctx.Err() == nil {
				err := s.InTenantWith(ctx, pgx.TxOptions{IsoLevel: level}, 1, directory.Epoch(epoch.Load()), func(ctx context.Context, tx *store.Tx) error {
					_, err := tx.Exec(ctx, `UPDATE n.n SET v = v + 1`)
					return err
				})
				if err == nil {
					acked.Add(1)
				}
			}
		})
	}
	value := func() (v int64) {
		if err := owner.QueryRow(ctx, `SELECT v FROM n.n`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for e := directory.Epoch(1); e < 40; e += 2 {
		for { // other writers may hold the lock for longer than we want to wait
			_, err := fence.Freeze(ctx, s.DB(), 1, e, "mv", time.Second)
			if err == nil {
				break
			}
			if !errors.Is(err, problem.Unavailable) {
				t.Fatal(err)
			}
		}
		before := value()
		epoch.Store(int64(e)) // stale writers go on trying
		for range 5 {
			if after := value(); after != before {
				t.Fatalf("epoch %d: %d became %d after the freeze", e, before, after)
			}
		}
		if _, err := fence.Activate(ctx, s.DB(), 1, e+1, e+2, "mv", time.Second); err != nil {
			t.Fatal(err)
		}
		epoch.Store(int64(e + 2))
		for got := value(); value() == got; { // until a writer got through
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
	}
	stop()
	wg.Wait()
	var v int64
	if err := owner.QueryRow(t.Context(), `SELECT v FROM n.n`).Scan(&v); err != nil || v < acked.Load() {
		t.Errorf("%d writes were acknowledged, %d are there, %v", acked.Load(), v, err)
	}
}

// A transaction that waits behind a freeze reads the fence after it, not as it
// was when the wait began; also a session's first one, which enters another way.
func TestWhoeverWaitedForAFreezeSeesIt(t *testing.T) {
	t.Parallel()
	for name, serving := range map[string]string{"a session that has served": "on", "a session's first": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, owner := open(t)
			ctx := t.Context()
			admit(t, s, 1)
			if _, err := s.DB().Exec(ctx, `SELECT set_config('cell.serving', $1, false)`, serving); err != nil { // the pool has this one session
				t.Fatal(err)
			}
			for _, sql := range []string{
				`BEGIN`, `SELECT pg_advisory_xact_lock(cell.lock_key(1))`,
				`UPDATE cell.fence SET state = 'frozen', epoch = 2 WHERE tenant_id = 1`,
			} {
				if _, err := owner.Exec(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			entered := make(chan error, 1)
			go func() { entered <- s.InTenant(ctx, 1, 1, nothing) }()
			const waits = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
			for n := 0; n == 0; {
				if err := owner.QueryRow(ctx, waits).Scan(&n); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := owner.Exec(ctx, `COMMIT`); err != nil {
				t.Fatal(err)
			}
			if f, ok := fence.Refused(<-entered); !ok || f.State != fence.Frozen || f.Epoch != 2 {
				t.Errorf("got %+v, want frozen at 2", f)
			}
		})
	}
}
