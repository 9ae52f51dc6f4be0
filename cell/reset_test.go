package cell_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell/projects"
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

// A list that is read on after such a loss says the same, where its client has the cursor.
func TestAListSaysThatWhatWasSeenIsLost(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	list := func(status int, query string) (page projects.ActivityPage) {
		t.Helper()
		a := h.want(status, request{method: "GET", path: "/v1/activity" + query})
		if status == 200 {
			return decode[projects.ActivityPage](t, a)
		}
		if !strings.Contains(string(a.body), `"gone"`) || !strings.Contains(string(a.body), "read anew") {
			t.Errorf("%s: got %s", query, a.body)
		}
		return page
	}
	upTo := func(seq int64) {
		t.Helper()
		eventually(t, "the events are consumed", func() bool { return list(200, "").NextAfter == seq })
	}
	for range 3 {
		h.createProject(acme, "before")
	}
	upTo(3)
	second, third := *list(200, "?limit=2").NextCursor, *list(200, "").NextCursor
	if p := list(200, "?limit=1&cursor="+second); len(p.Items) != 1 || p.Items[0].Seq != 3 || *p.NextCursor != third {
		t.Errorf("behind the second: got %+v", p)
	}
	if p := list(200, "?after=9&cursor="+third); len(p.Items) != 0 || p.NextAfter != 3 || *p.NextCursor != third {
		t.Errorf("behind the last: got %+v", p)
	}

	h.lose(2, true)
	list(410, "?cursor="+third)
	list(410, "?after=3") // as of a client that has only numbers
	h.createProject(acme, "under a number that was given before")
	upTo(3)
	list(410, "?cursor="+third)
	for _, query := range []string{"?limit=1&cursor=" + second, "?limit=1&after=2"} {
		if p := list(200, query); len(p.Items) != 1 || p.Items[0].Seq != 3 || *p.NextCursor == third {
			t.Errorf("%s: got %+v", query, p)
		}
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
