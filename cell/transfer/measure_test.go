package transfer_test

import (
	"encoding/json"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
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
	list, err := transfer.Tables(ctx, a.mover)
	must(t, err)
	var raw []byte
	must(t, a.mover.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+transfer.MeasureSQL(list), mover).Scan(&raw))
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
