package cell_test

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// TestAKeyTakesNoOtherLock: fences and session locks are of one number. The key is made
// for acme and the lock of bravo's fence, as anyone can make them: hashtextextended has
// an inverse.
func TestAKeyTakesNoOtherLock(t *testing.T) {
	t.Parallel()
	const crafted = "crafted-.HyXw5kO7q-I"
	h, s := startSlow(t)
	var hash, fence int64
	if err := h.store.DB().QueryRow(t.Context(), `SELECT hashtextextended('idempotency:' || $1::bigint || ':' || $2::text, 0), $3::bigint | 8935141660703064064`,
		acme, crafted, bravo).Scan(&hash, &fence); err != nil || hash != fence {
		t.Fatalf("the key has hash %x, the fence of %d has lock %x: %v", hash, bravo, fence, err)
	}
	first := make(chan response)
	go func() { first <- h.send(keyed(crafted, `{"name":"Moon"}`)) }()
	<-s.inside
	var held int
	if err := h.store.DB().QueryRow(t.Context(), `
		SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
		 WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'`).Scan(&held); err != nil || held > 0 {
		t.Errorf("exclusive locks of one number: got %d, %v", held, err)
	}
	h.want(200, request{tenant: bravo, method: "GET", path: "/v1/projects"})
	close(s.goOn)
	if got := <-first; got.status != 201 {
		t.Errorf("first: got %d", got.status)
	}
}

// TestTheFirstThatIsKeptCounts also where the other request's process takes another
// lock, as one of the release before does.
func TestTheFirstThatIsKeptCounts(t *testing.T) {
	t.Parallel()
	h, s := startSlow(t)
	q := keyed("k1", `{"name":"Moon"}`)
	second := make(chan response)
	go func() { second <- h.send(q) }()
	<-s.inside
	err := h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body)
			VALUES ($1, 'k1', sha256(''), 201, '{}', '')`, acme)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	close(s.goOn)
	r := <-second
	if r.status != 409 || decode[document](t, r).Code != "conflict" || r.header.Get("Retry-After") != "1" {
		t.Errorf("second: got %d %v %s", r.status, r.header, r.body)
	}
	if got := h.position(acme); got != 0 {
		t.Errorf("events: got %d, want none", got)
	}
}
