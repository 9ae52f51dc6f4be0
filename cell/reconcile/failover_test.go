package reconcile_test

import (
	"testing"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/testkit"
)

// A stage is two cells: c1 on a server of its own, c2 somewhere.
func stage(t *testing.T) (w *world, s *server, c1, c2 *cell) {
	t.Helper()
	w = &world{Memory: directorytest.NewMemory()}
	s = newServer(t)
	must(t, local.InitDB(t.Context(), s.Bin, s.Data, s.Password, s.User, "--wal-segsize=4"))
	s.start(t)
	exec(t, s.URL("postgres"), `CREATE DATABASE cell`)
	elsewhere := testkit.Postgres(t)
	w.prepare(t, "c1", s.URL("cell"))
	w.prepare(t, "c2", elsewhere)
	c1, c2 = w.open(t, "c1", s.URL("cell")), w.open(t, "c2", elsewhere)
	for _, c := range []*cell{c1, c2} { // a database that was just made has lost nothing
		c.watch()
		c.serves(t)
	}
	return w, s, c1, c2
}

// told waits until the directory knows how far the cell's database is.
func told(t *testing.T, w *world, c *cell) {
	t.Helper()
	incarnation := query[string](t, c.owner, `SELECT id::text FROM cell.incarnation`)
	beat := query[int64](t, c.owner, `SELECT beat FROM cell.serving`)
	until(t, "the directory is told", func() bool {
		c.agent.Wake()
		n, err := w.Memory.Witness(t.Context(), c.app.Cell(), incarnation, 0, 0)
		return err == nil && n.Number > beat
	})
}

func TestAPromotedStandbyServesNobodyBeforeItIsReconciled(t *testing.T) {
	t.Parallel()
	w, s, c1, c2 := stage(t)
	ctx := t.Context()
	stays, left, leaving, done := w.tenant(t, "c1"), w.tenant(t, "c1"), w.tenant(t, "c1"), w.tenant(t, "c1")
	for _, tenant := range []directory.TenantID{stays, left, leaving, done} {
		c1.use(t, tenant, 1, 1)
	}
	standby := s.copy(t, true)
	standby.start(t)
	lsn := query[string](t, s.URL("cell"), `SELECT pg_current_wal_lsn()::text`)
	until(t, "the standby has followed", func() bool {
		return query[bool](t, standby.URL("postgres"), `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn)
	})
	standby.kill() // from here on it receives nothing

	c1.use(t, stays, 1, 2) // acknowledged and not replicated: the database's loss
	c1.use(t, left, 1, 2)
	moved := w.move(t, c1, c2, directory.NewMove{Tenant: left}, directory.Watching)
	purged := w.move(t, c1, c2, directory.NewMove{Tenant: done}, directory.Watching)
	undecided := w.move(t, c1, c2, directory.NewMove{Tenant: leaving}, directory.Frozen)
	must(t, c2.write(ctx, left, 2, 3))
	s.kill()
	c1.close()

	standby.start(t)
	c1 = w.open(t, "c1", standby.URL("cell"))
	c1.wantRefused(t, stays, left, leaving)
	if !query[bool](t, standby.URL("postgres"), `SELECT pg_promote()`) {
		t.Fatal("the standby was not promoted")
	}
	c1.wantRefused(t, stays, left, leaving)
	w.gone.Store(true)
	c1.watch()
	c1.wantRefused(t, stays, left)
	w.gone.Store(false)
	c1.agent.Wake()
	c1.serves(t)

	c1.wantFence(t, stays, fence.Active, 1)
	c1.wantFence(t, left, fence.Moved, 2)
	c1.wantFence(t, leaving, fence.Active, 3)
	m, err := w.Move(ctx, undecided.ID)
	if err != nil || m.Phase != directory.Aborting {
		t.Errorf("the undecided move: got %+v, %v, want it aborted", m, err)
	}
	must(t, c1.write(ctx, stays, 1, 5))
	must(t, c1.write(ctx, leaving, 3, 5))
	must(t, c2.write(ctx, left, 2, 5))
	if f, ok := fence.Refused(c1.write(ctx, left, 1, 5)); !ok || f.State != fence.Moved || f.MovedTo != "c2" || f.Epoch != 2 {
		t.Errorf("the tenant that has left: got %+v, want moved to c2", f)
	}

	// The mover goes on: the aborted move is restored, a watch is ended, the way back of
	// the other is a whole copy, because the one that was kept here lost its end.
	must(t, c1.Release(ctx, asked(m)))
	must(t, c2.Discard(ctx, asked(m)))
	_, err = c1.purger.Rows(ctx, transfer.Step{Move: purged.ID, Tenant: done, Epoch: 2})
	must(t, err)
	must(t, c2.Disarm(ctx, asked(purged), time.Second))
	if n := c1.notes(t, done); n != 0 {
		t.Errorf("after the purge: got %d notes", n)
	}
	// Also after one that was cancelled before it was made.
	cancelled := w.move(t, c2, c1, directory.NewMove{Tenant: left, Undoes: moved.ID}, directory.Armed)
	cancelled.Phase = directory.Aborting
	must(t, w.Advance(ctx, cancelled, directory.Armed))
	must(t, c2.Release(ctx, asked(cancelled)))
	must(t, c1.Discard(ctx, asked(cancelled)))
	cancelled.Phase = directory.Aborted
	must(t, w.Advance(ctx, cancelled, directory.Aborting))
	w.move(t, c2, c1, directory.NewMove{Tenant: left, Undoes: moved.ID}, directory.Watching)
	if got, want := c1.notes(t, left), c2.notes(t, left); got != want || got != 4 {
		t.Errorf("after the way back: got %d notes, want %d", got, want)
	}
	must(t, c1.write(ctx, left, 5, 6))
}

func asked(m directory.Move) transfer.Move {
	return transfer.Move{ID: m.ID, Tenant: m.Tenant, Base: m.Base, Source: m.Source, Target: m.Target, Undoes: m.Undoes}
}

func TestARestoredBackupIsFoundOutAndReconciled(t *testing.T) {
	t.Parallel()
	w, s, c1, c2 := stage(t)
	ctx := t.Context()
	stays, left, came, gone := w.tenant(t, "c1"), w.tenant(t, "c1"), w.tenant(t, "c2"), w.tenant(t, "c1")
	c1.use(t, gone, 1, 1)
	c1.use(t, stays, 1, 1)
	c1.use(t, left, 1, 1)
	c2.use(t, came, 1, 1)
	backup := s.copy(t, false)

	unused, brief := w.tenant(t, "c1"), w.tenant(t, "c1")
	c1.use(t, stays, 1, 2)
	c1.use(t, brief, 1, 1)
	w.move(t, c1, c2, directory.NewMove{Tenant: left}, directory.Watching)
	w.move(t, c1, c2, directory.NewMove{Tenant: brief}, directory.Watching)
	back := w.move(t, c2, c1, directory.NewMove{Tenant: came}, directory.Watching)
	must(t, w.DeleteTenant(ctx, gone))
	told(t, w, c1)
	c1.close()
	s.kill()

	backup.start(t)
	c1 = w.open(t, "c1", backup.URL("cell"))
	c1.wantRefused(t, stays, left, came, unused, brief, gone)
	c1.watch()
	c1.serves(t)
	c1.wantFence(t, stays, fence.Active, 1)
	c1.wantFence(t, unused, fence.Active, 1)
	c1.wantFence(t, left, fence.Moved, 2)
	c1.wantFence(t, gone, fence.Deleted, 2)
	if list, err := fence.Unpurged(ctx, c1.app.DB(), 0, 10); err != nil || len(list) != 1 || list[0].Tenant != gone {
		t.Errorf("deleted while the database was away: got %v, %v, want it to be purged", list, err)
	}
	c1.wantFence(t, came, fence.Suspect, 2)
	must(t, c1.write(ctx, stays, 1, 3))

	// The tenant that the backup does not know of, and that lives elsewhere by now.
	c1.wantFence(t, brief, fence.Moved, 2) // its watch is open
	exec(t, c1.owner, `DELETE FROM cell.fence WHERE tenant_id = $1`, brief)
	if f, err := fence.Admit(ctx, c1.app.DB(), brief, 1); err != nil || f.State != fence.Absent {
		t.Errorf("a forgotten tenant: got %+v, %v, want it refused", f, err)
	}
	c1.use(t, w.tenant(t, "c1"), 1, 1) // a new one comes in as ever

	// The tenant whose coming was lost: nobody is served until an operator says so.
	if f, ok := fence.Refused(c1.write(ctx, came, 2, 2)); !ok || f.State != fence.Suspect || f.Epoch != 2 {
		t.Errorf("a tenant that is not here: got %+v, want suspect", f)
	}
	exec(t, c1.owner, `SELECT cell.accept($1)`, came)
	must(t, c1.write(ctx, came, 2, 2))
	// What c2 kept and what is here have nothing to do with each other: no undo by difference.
	undo, err := w.CreateMove(ctx, directory.NewMove{Tenant: came, Target: "c2", Undoes: back.ID})
	must(t, err)
	must(t, c2.Reserve(ctx, asked(undo)))
	must(t, c1.Arm(ctx, asked(undo), time.Second))
	if err := round(ctx, c1, c2, asked(undo), false); err == nil {
		t.Error("the way back began with the differences to a copy that has none")
	}

	// From here on a restart is a plain one.
	told(t, w, c1)
	backup.kill()
	backup.start(t)
	c1.serves(t)
	until(t, "it serves again", func() bool { c1.agent.Wake(); return c1.write(ctx, stays, 1, 9) == nil })
	if n := query[int](t, c1.owner, `SELECT generation FROM cell.serving`); n != 1 {
		t.Errorf("got %d reconciliations, want 1", n)
	}
}

func TestAPlainRestartAbortsNothing(t *testing.T) {
	t.Parallel()
	w, s, c1, c2 := stage(t)
	ctx := t.Context()
	stays, leaving := w.tenant(t, "c1"), w.tenant(t, "c1")
	c1.use(t, stays, 1, 1)
	c1.use(t, leaving, 1, 1)
	m := w.move(t, c1, c2, directory.NewMove{Tenant: leaving}, directory.Copied)
	told(t, w, c1)
	restart := func() {
		t.Helper()
		s.kill()
		s.start(t)
	}
	note := 10
	works := func() {
		t.Helper()
		until(t, "it serves again", func() bool { note++; return c1.write(ctx, leaving, 1, note) == nil })
	}
	restart()
	works()
	w.gone.Store(true) // the process has the witness in memory
	restart()
	works()

	c1.close() // now nobody has it
	restart()
	c1 = w.open(t, "c1", s.URL("cell"))
	c1.watch()
	c1.wantRefused(t, stays)
	if err := c1.agent.Ready(ctx); err == nil {
		t.Error("it says that it is ready")
	}
	w.gone.Store(false)
	c1.agent.Wake()
	works()

	if got, err := w.Move(ctx, m.ID); err != nil || got.Phase != directory.Copied {
		t.Errorf("the move under way: got %+v, %v, want it untouched", got, err)
	}
	must(t, round(ctx, c1, c2, asked(m), false))
	if got, want := c2.notes(t, leaving), c1.notes(t, leaving); got != want {
		t.Errorf("the move goes on: got %d notes, want %d", got, want)
	}
	if n := query[int](t, c1.owner, `SELECT generation FROM cell.serving`); n != 0 {
		t.Errorf("got %d reconciliations, want none", n)
	}
}
