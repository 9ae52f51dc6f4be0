package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory/token"
)

// A waiting is a reader of a stream that takes a little of it, then waits once.
type waiting struct {
	after int
	until func() error
}

func (w *waiting) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 && w.until != nil {
		until := w.until
		w.until = nil
		return len(p), until()
	}
	return len(p), nil
}

// TestASlowReaderGetsTheWholeStream: the server has sent all of a table, and the target, which hashes what it has, or the
// pace takes longer for it than a session may be idle otherwise. The transaction of the stream goes on.
func TestASlowReaderGetsTheWholeStream(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	a := newCell(t, "a", oneTable+`k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));`, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, v) SELECT 7, n, repeat('x', 70) FROM pg_catalog.generate_series(1, 2000) n`))
	must(t, a.Arm(ctx, there, wait))

	cfg := a.mover.Config()
	cfg.MaxConns = 1
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "10ms"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	must(t, err)
	t.Cleanup(pool.Close)
	var session int
	must(t, pool.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&session))
	reader := &waiting{after: 100 << 10, until: func() error {
		const idle = `SELECT state = 'idle in transaction' AND clock_timestamp() - state_change > interval '1 second' FROM pg_stat_activity WHERE pid = $1`
		for long := false; !long; {
			if err := a.owner.QueryRow(ctx, idle, session).Scan(&long); err != nil {
				return errors.Join(errors.New("the stream's session"), err)
			}
		}
		return nil
	}}
	n, err := transfer.NewSource(pool, nil).Stream(ctx, reader, there.ID, mover, "")
	if err != nil || n.Rows != 2000 {
		t.Errorf("got %+v, %v, want the whole stream", n, err)
	}
	if reader.until != nil {
		t.Error("the reader has not waited")
	}
}

// TestAReaderThatHangsKeepsNoTransaction: a target that is stopped takes nothing, and its connection stays. The source's
// transaction, which holds back vacuum and migrations of the cell, ends.
func TestAReaderThatHangsKeepsNoTransaction(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	a := newCell(t, "a", oneTable+`k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));`, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, v) SELECT 7, n, repeat('x', 1000000) FROM pg_catalog.generate_series(1, 100) n`))
	must(t, a.Arm(ctx, there, wait))
	keys, err := token.ParseKeys(token.NewKey("k1"))
	must(t, err)
	cell := &transfer.Server{Steps: a.Steps, Source: a.source, Pool: a.mover, Keys: keys.Public(), Log: slog.New(slog.DiscardHandler)}
	cell.TakenWithin(100 * time.Millisecond)
	server := httptest.NewServer(cell.Handler())
	t.Cleanup(server.Close)

	body := fmt.Sprintf(`{"move":%q,"tenant":%d,"base_epoch":%d,"source":"a","target":"b"}`, there.ID, there.Tenant, there.Base)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+transfer.Prefix+"rows", strings.NewReader(body))
	must(t, err)
	bearer, err := keys.Issue(token.Claims{Kind: token.Cell, Subject: "b", Cell: "a", Move: there.ID}, time.Now(), time.Hour)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("got %d", resp.StatusCode)
	}
	const open = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mover_a' AND xact_start IS NOT NULL)`
	for still := true; still; {
		must(t, a.owner.QueryRow(ctx, open).Scan(&still))
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the reader got all %d bytes: it was none that hangs", n)
	}
}
