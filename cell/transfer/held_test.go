package transfer_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
)

// A keyMeter passes a stream on and knows how many bytes of keys a target has to hold at once, and how often a
// table begins.
type keyMeter struct {
	to               io.Writer
	rest             []byte
	held, most, head int
}

func (m *keyMeter) Write(b []byte) (int, error) {
	m.rest = append(m.rest, b...)
	for len(m.rest) >= 5 {
		n := 5 + int(binary.BigEndian.Uint32(m.rest[1:]))
		if len(m.rest) < n {
			break
		}
		switch m.rest[0] {
		case 'T':
			m.held, m.head = 0, m.head+1
		case 'K':
			m.held += n - 5
			m.most = max(m.most, m.held)
		}
		m.rest = m.rest[n:]
	}
	return m.to.Write(b)
}

// TestAMillionKeysTakeBoundedMemory: a round of however many keys is sent and applied with so many of them held, and
// brings the same.
func TestAMillionKeysTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const ddl = oneTable + `k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));`
	a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, v) SELECT 7, n, 'before' FROM pg_catalog.generate_series(1, 2000) n`))
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	_, err = round(t, a, b, there, false)
	must(t, err)
	must(t, a.do(t, mover, 1, `UPDATE app.one SET v = 'after' WHERE k <= 1500`))
	must(t, a.do(t, mover, 1, `DELETE FROM app.one WHERE k <= 500`))
	_, err = a.owner.Exec(ctx, `INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT 7, 'app.one', to_jsonb(ARRAY[n::text]) FROM generate_series(1, 1000000) n`)
	must(t, err)

	const most = 4 << 20
	a.source.HoldKeys(most)
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	have, err := b.target.Received(ctx, step)
	must(t, err)
	r, w := io.Pipe()
	meter := &keyMeter{to: w}
	go func() {
		_, err := a.source.Stream(ctx, meter, there.ID, mover, have.Snapshot)
		w.CloseWithError(err)
	}()
	got, err := b.target.Apply(ctx, step, false, r)
	if err != nil || got.Totals.Keys != 1_000_000 || got.Totals.Rows != 1500 {
		t.Errorf("got %+v, %v, want a round of a million keys and 1,500 rows", got.Totals, err)
	}
	if meter.most > 3*most/2 || meter.head < 6 {
		t.Errorf("a target holds %d bytes of keys, and gets %d tables, want about %d at most", meter.most, meter.head, most)
	}
	same(t, "after it", contents(t, b, mover), contents(t, a, mover))
}

// TestATableInPartsBringsTheSame: rows whose keys are of different parts may have got what is unique from each other, and
// go before any of them comes, whatever the form of the table.
func TestATableInPartsBringsTheSame(t *testing.T) {
	t.Parallel()
	for form, column := range map[string]string{"binary": "v text", "text": "v text[]"} { // an array of an application's type travels as text
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ddl := oneTable + `k integer NOT NULL, u integer NOT NULL, ` + column + `, PRIMARY KEY (tenant_id, k), UNIQUE (tenant_id, u));`
			if form == "text" {
				ddl += `CREATE TYPE app.mood AS ENUM ('good', 'bad'); ALTER TABLE app.one ADD moods app.mood[];`
			}
			a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
			_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
			must(t, err)
			must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, u) SELECT 7, n, n FROM pg_catalog.generate_series(1, 40) n`))
			must(t, b.Reserve(ctx, there))
			must(t, a.Arm(ctx, there, wait))
			_, err = round(t, a, b, there, false)
			must(t, err)
			a.source.StreamEverything()
			for _, most := range []int{1, 30, 100} {
				a.source.HoldKeys(most)
				must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error {
					return execAll(ctx, tx, `
						UPDATE app.one SET u = -u WHERE k BETWEEN 10 AND 30;
						UPDATE app.one SET u = (SELECT -min(o.u) - max(o.u) FROM app.one o WHERE o.u < 0) + app.one.u WHERE u < 0;
						DELETE FROM app.one WHERE u = 5`)
				}))
				must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, u) VALUES (7, $1, 5)`, 100+most))
				got, err := round(t, a, b, there, false)
				if err != nil || got.Totals.Keys < 20 {
					t.Fatalf("at most %d bytes: got %+v, %v", most, got.Totals, err)
				}
				same(t, fmt.Sprint(most), contents(t, b, mover), contents(t, a, mover))
			}
			// Parts of many rows, behind keys alone that are few.
			must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, u) SELECT 7, n, n FROM pg_catalog.generate_series(1001, 2000) n`))
			a.source.HoldKeys(6000)
			_, err = round(t, a, b, there, false)
			must(t, err)
			same(t, "many rows", contents(t, b, mover), contents(t, a, mover))
		})
	}
}
