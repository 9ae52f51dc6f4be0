package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// TestWhatIsStoredApartIsNotReadToMeasureIt: a tenant of documents has gigabytes of them, of which the sizes are known
// without reading one.
func TestWhatIsStoredApartIsNotReadToMeasureIt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newCell(t, "a", oneTable+`k integer NOT NULL, v bytea, w text, PRIMARY KEY (tenant_id, k)); ALTER TABLE app.one ALTER v SET STORAGE EXTERNAL;`, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	const rows, size = 50, 200_000
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, v) SELECT 7, n, pg_catalog.decode(pg_catalog.repeat('ab', $2::integer), 'hex') FROM pg_catalog.generate_series(1, $1::integer) n`, rows, size))

	var look transfer.Preflight
	r, err := look.Report(ctx, a.mover, mover, true)
	if err != nil || r.Rows != rows || r.Bytes < rows*size || r.Bytes > rows*size*11/10 {
		t.Errorf("got %d rows of %d bytes, %v, want %d of %d and a little", r.Rows, r.Bytes, err, rows, rows*size)
	}
	if r.AtLeast {
		t.Error("not all rows were counted")
	}
	for limit, more := range map[int]bool{rows - 1: true, rows: true, rows + 1: false} { // that there are no more than the limit, nobody has looked
		look.CountUpTo(limit)
		if r, err := look.Report(ctx, a.mover, mover, true); err != nil || r.Rows != int64(min(limit, rows)) || r.AtLeast != more {
			t.Errorf("up to %d: got %+v, %v", limit, r, err)
		}
	}
	list, err := transfer.Tables(ctx, a.mover)
	must(t, err)
	var raw []byte
	must(t, a.mover.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+transfer.MeasureSQL(list, transfer.SizeLimit), mover).Scan(&raw))
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	must(t, json.Unmarshal(raw, &plans))
	if p := plans[0].Plan; p.Hit+p.Read > 200 { // the documents have 1,250
		t.Errorf("%d pages were read", p.Hit+p.Read)
	}
}

// TestThoseWhoMeasureLeaveConnections has many tenants measured, which takes until a table's lock is gone: a last
// round, which begins with a look at the fence, and a move's own measurement have what they need, also while the schema has to be read.
func TestThoseWhoMeasureLeaveConnections(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a := newCell(t, "a", oneTable+`k integer NOT NULL, PRIMARY KEY (tenant_id, k));`, "app.one")
	cfg := a.mover.Config()
	cfg.MaxConns = transfer.MeasuredMost + 1
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	must(t, err)
	t.Cleanup(pool.Close)
	keys, err := token.ParseKeys(token.NewKey("k1"))
	must(t, err)
	handler := (&transfer.Server{Steps: a.Steps, Source: transfer.NewSource(pool, nil), Pool: pool, Keys: keys.Public(), Log: slog.New(slog.DiscardHandler)}).Handler()
	var came atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := client.New(client.Mover{ID: "mover-1", Keys: keys}, "a", server.URL, server.Client())

	tx, err := a.owner.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, `LOCK TABLE app.one IN ACCESS EXCLUSIVE MODE`)
	must(t, err)
	const waiting = `SELECT count(*) FROM pg_locks WHERE relation = 'app.one'::regclass AND NOT granted`
	await := func(n int) {
		for got := -1; got != n; {
			must(t, tx.QueryRow(ctx, waiting).Scan(&got))
		}
	}
	const many = 8 // the schema, which is not known yet, is waited for as well
	var wg sync.WaitGroup
	measure := func(id string) {
		wg.Go(func() {
			m := there
			m.ID = directory.MoveID(id)
			if _, err := c.Preflight(ctx, m, true); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	for i := range many {
		measure(fmt.Sprint("rh_", i))
	}
	for came.Load() < many {
		await(1) // a place of the two
	}
	measure("mv_1")
	await(transfer.MeasuredMost)
	for range 20 {
		_, err := fence.Get(ctx, pool, mover)
		must(t, err)
	}
	await(transfer.MeasuredMost)
	must(t, tx.Rollback(ctx))
	wg.Wait()
}
