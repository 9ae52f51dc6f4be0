package transfer_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
)

// TestRowsPerSecondAreRows: a bound in rows holds back a few rows that travel together, at the source and at the
// target, of a copy and of a round, in binary form and in text. One row per second is allowed here, and the second one
// of a call that has less than a second cannot be waited for.
func TestRowsPerSecondAreRows(t *testing.T) {
	t.Parallel()
	for form, column := range map[string]string{"binary": "text", "text": "app.mood[]"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ddl := `CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO cell_app; CREATE TYPE app.mood AS ENUM ('ok');
				CREATE TABLE app.one (tenant_id bigint NOT NULL, k integer NOT NULL, v ` + column + `, PRIMARY KEY (tenant_id, k));`
			a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
			_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
			must(t, err)
			must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k) SELECT 7, n FROM pg_catalog.generate_series(1, 5) n`))
			must(t, b.Reserve(ctx, there))
			must(t, a.Arm(ctx, there, wait))
			step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
			slow := func() *transfer.Pace { return transfer.NewPace(transfer.PaceOptions{Rows: 1}) }
			for _, what := range []string{"copy", "round"} {
				have, err := b.target.Received(ctx, step)
				must(t, err)
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if n, err := transfer.NewSource(a.mover, slow()).Stream(short, &bytes.Buffer{}, there.ID, mover, have.Snapshot); err == nil {
					t.Errorf("the source sent %d rows of a %s in less than a second", n.Rows, what)
				}
				var sent bytes.Buffer
				n, err := a.source.Stream(ctx, &sent, there.ID, mover, have.Snapshot)
				if must(t, err); n.Rows != 5 {
					t.Fatalf("got %+v", n)
				}
				short, cancel = context.WithTimeout(ctx, time.Second)
				defer cancel()
				if _, err := transfer.NewTarget(b.mover, slow()).Apply(short, step, false, bytes.NewReader(sent.Bytes())); err == nil {
					t.Errorf("the target took the rows of a %s in less than a second", what)
				}
				if _, err := b.target.Apply(ctx, step, false, &sent); err != nil {
					t.Fatal(err)
				}
				must(t, a.do(t, mover, 1, `UPDATE app.one SET v = NULL`))
			}
		})
	}
}

// TestRowsAreCountedInPieces: wherever COPY data is cut.
func TestRowsAreCountedInPieces(t *testing.T) {
	t.Parallel()
	binary := []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03abc" + // empty, abc
		"\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff" + // NULL, NULL
		"\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x02\x00\x02" +
		"\xff\xff")
	for form, data := range map[bool][]byte{true: binary, false: []byte("1\ta\\nb\n\n3\t\\N\n")} {
		table := transfer.Table{Binary: form}
		for i := range data {
			for j := range data[i:] {
				if n := transfer.RowsIn(table, data[:i], data[i:i+j], data[i+j:]); n != 3 {
					t.Errorf("binary %v, cut at %d and %d: got %d rows, want 3", form, i, i+j, n)
				}
			}
		}
	}
}
