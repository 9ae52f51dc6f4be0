package cell_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/store"
)

// 30 requests of one tenant wait for a row that stays locked, in a pool of 20 connections:
// other tenants are served, and the cell has connections for itself.
func TestATenantThatWaitsLeavesConnectionsToOthers(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.Timeout = time.Minute })
	project := h.createProject(acme, "Moon")
	locked, release, unlocked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		unlocked <- h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `SELECT FROM projects.projects WHERE tenant_id = $1 AND id = $2 FOR UPDATE`, tx.Tenant, project.ID)
			close(locked)
			<-release
			return err
		})
	}()
	<-locked
	const many, share = 30, 13
	answers := make(chan int, many)
	for range many {
		req, err := h.build(request{tenant: acme, method: "POST", path: "/v1/projects/" + project.ID + "/tasks", body: `{"title":"Dust"}`})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				answers <- 0
				return
			}
			_ = resp.Body.Close()
			answers <- resp.StatusCode
		}()
	}
	waiting := func() (n int) {
		const waits = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND wait_event_type = 'Lock'`
		if err := h.store.DB().QueryRow(t.Context(), waits).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	for waiting() < share && !t.Failed() {
	}
	h.createProject(bravo, "Mars")
	if n := waiting(); n != share || len(answers) > 0 {
		t.Errorf("%d of the other tenant's requests have a connection, want %d; %d were answered", n, share, len(answers))
	}
	close(release)
	if err := <-unlocked; err != nil {
		t.Error(err)
	}
	for range many {
		if got := <-answers; got != 201 {
			t.Errorf("got %d, want 201", got)
		}
	}
}
