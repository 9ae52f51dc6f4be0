package transfer_test

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
)

// TestAPartitionThatCameLaterIsProtected: one that a release, or somebody each month, makes of a table that is a tenant
// table already stops neither the cell's next start nor its moves.
func TestAPartitionThatCameLaterIsProtected(t *testing.T) {
	t.Parallel()
	for _, named := range []string{"app.event", "app.event_26"} { // as each start does, and as the finding says
		t.Run(named, func(t *testing.T) {
			t.Parallel()
			c := newCell(t, "a", everyType, everyTable...)
			exec := func(sql string) {
				t.Helper()
				_, err := c.owner.Exec(context.WithoutCancel(t.Context()), sql)
				must(t, err)
			}
			exec(`DROP TABLE app.event_new; CREATE TABLE app.event_26 PARTITION OF app.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (no);
				CREATE TABLE app.event_26_no PARTITION OF app.event_26 DEFAULT`)
			exec(`SELECT cell.protect('` + named + `')`)
			c.prepare(t, "a")
			var look transfer.Preflight
			r, err := look.Report(t.Context(), c.mover, mover, false)
			must(t, err)
			if len(r.Findings) > 0 {
				t.Errorf("findings: %+v", r.Findings)
			}
			tx, err := c.mover.Begin(t.Context()) // once more takes no lock
			must(t, err)
			_, err = tx.Exec(t.Context(), `SELECT FROM app.event`)
			must(t, err)
			exec(`SET lock_timeout = '10ms'; SELECT cell.protect('` + named + `')`)
			must(t, tx.Rollback(t.Context()))
		})
	}
}
