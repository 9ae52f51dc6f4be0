package cell_test

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// lose takes the tenant's last events away, as the promotion of a standby does that
// was behind: all of it, or only what consumers made of them.
func (h *harness) lose(after int, events bool) {
	h.t.Helper()
	sql := []string{
		`DELETE FROM projects.activity WHERE tenant_id = $1 AND seq > $2`,
		`UPDATE cell.inbox SET last_seq = $2 WHERE tenant_id = $1`,
	}
	if events {
		sql = append(sql,
			`UPDATE cell.outbox_counter SET last = $2 WHERE tenant_id = $1`,
			`UPDATE cell.outbox_cursor SET published = $2 WHERE tenant_id = $1`,
			`DELETE FROM cell.outbox WHERE tenant_id = $1 AND seq > $2`)
	}
	if err := h.store.InTenant(h.t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		for _, s := range sql {
			if _, err := tx.Exec(ctx, s, tx.Tenant, after); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// resume opens a stream of one who has seen the event with that id.
func (h *harness) resume(id string) *listener {
	h.t.Helper()
	return h.listen(200, request{header: map[string]string{"Last-Event-ID": id}})
}

// A client that has seen what the database lost is told to read anew, whether the
// numbers were given again meanwhile or not, and misses nothing.
func TestAStreamSaysThatWhatWasSeenIsLost(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	for range 3 {
		h.createProject(acme, "before")
	}
	l := h.listen(200, request{})
	l.want(1, 2)
	second := l.last
	l.want(3)
	third := l.last

	h.lose(2, true)
	behind := h.resume(third)
	behind.wantReset()
	behind.want(1, 2)
	h.resume("3").wantReset() // as of a client that was told numbers
	kept := h.resume(second)

	h.createProject(acme, "under a number that was given before")
	behind.want(3)
	kept.want(3)
	if kept.last == third {
		t.Error("two events have one id")
	}
	again := h.resume(third)
	again.wantReset()
	again.want(1, 2, 3)
	h.resume(again.last) // the new one's is a place
	l.wantReset()        // the stream that was open all the time
	l.want(1, 2, 3)
	if n := h.metric("cell_streams_reset_total"); n != 4 {
		t.Errorf("%v clients were told, want 4", n)
	}
}

// What consumers made of an event may be behind the event: they make it again, and
// a client that has seen it goes on where it was.
func TestAStreamWaitsForWhatIsMadeAgain(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	for range 3 {
		h.createProject(acme, "before")
	}
	l := h.listen(200, request{})
	l.want(1, 2, 3)
	h.lose(1, false)
	behind := h.resume(l.last)
	h.createProject(acme, "behind it")
	behind.want(4)
	l.want(4)
}
