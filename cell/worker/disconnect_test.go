package worker

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// The server drops every connection of the cell, again and again: pools, locks
// and the listener come back, and nothing is lost, doubled, or blamed on an event.
func TestConnectionsDropped(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	start(t, st.relay(), st.worker(t, quick(), logger("log")))
	for round := range 5 {
		for i := 0; i < 20; {
			if appendOne(t.Context(), st.store, 1, created, i) == nil {
				i++ // an error may hide a commit; the position below counts those
			}
			if i == 10 {
				if _, err := st.owner.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				i++
			}
		}
	}
	var pos outbox.Position
	eventually(t, "the position can be read", func() bool {
		return st.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) (err error) {
			pos, err = outbox.ReadPosition(ctx, tx)
			return err
		}) == nil
	})
	if pos.Last < 5*19 {
		t.Errorf("only %d events were written", pos.Last)
	}
	st.waitEffects(t, 1, int(pos.Last), "log")
	if n := testCount(t, st, `SELECT count(*) FROM cell.dead_letter`); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}
