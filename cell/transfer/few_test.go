package transfer_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
)

// plainColumns are those of app.thing whose binary form means the same everywhere.
const plainColumns = "i2, i4, i8, f4, f8, num, money, b, t, v, c, by, d, ti, ttz, ts, tsz, iv, u, j, jb, ip, net, mac, bits, arr, tarr, r, tr, x, xs, tv, p, mood, mail"

// TestRoundsOfFewAndOfManyKeysBringTheSame: however a round is sent and stored, the
// stream is the same and the target has what the source has.
func TestRoundsOfFewAndOfManyKeysBringTheSame(t *testing.T) {
	t.Parallel()
	const plain = everyType + `
		CREATE TABLE app.plain (LIKE app.thing INCLUDING ALL);
		ALTER TABLE app.plain DROP COLUMN moods, DROP COLUMN pair;` // what travels in binary form
	ctx := t.Context()
	a, b := newCell(t, "a", plain, append(everyTable, "app.plain")...), newCell(t, "b", plain, append(everyTable, "app.plain")...)
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, fill) }))
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	many := transfer.NewSource(a.mover, nil)
	many.StreamEverything()
	few := a.source
	for _, change := range []string{
		`UPDATE app.part SET label = 'new'; UPDATE app.counter SET v = v + 1; UPDATE app.thing SET n = DEFAULT;
		 INSERT INTO app.plain (tenant_id, id, ` + plainColumns + `) SELECT tenant_id, id, ` + plainColumns + ` FROM app.thing`,
		`UPDATE app.plain SET t = 'new'; DELETE FROM app.event`,
		`INSERT INTO app.plain (tenant_id, id) SELECT 7, pg_catalog.gen_random_uuid() FROM pg_catalog.generate_series(1, 300)`, // more than are stored by statements
		`INSERT INTO app.plain (tenant_id, id) SELECT 7, pg_catalog.gen_random_uuid() FROM pg_catalog.generate_series(1, 86)`,  // statements of each size
		`DELETE FROM app.plain`,
		`UPDATE app.rare SET id = id + 10; UPDATE app.bucket SET v = v + 1; UPDATE app.place SET land = 'it' WHERE land = 'ch'; UPDATE app.place SET no = no + 10 WHERE land IN ('at', 'de');
		 UPDATE app.nick SET nick = 'BOB' WHERE n = 1`, // the same citext, under another text
		`DELETE FROM app.rare; UPDATE app.search SET id = -id; DELETE FROM app.place WHERE no > 11; DELETE FROM app.nick`,
	} {
		must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, change) }))
		have, err := b.target.Received(ctx, transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2})
		must(t, err)
		var one, other bytes.Buffer
		n, err := few.Stream(ctx, &one, there.ID, mover, have.Snapshot)
		must(t, err)
		m, err := many.Stream(ctx, &other, there.ID, mover, have.Snapshot)
		must(t, err)
		if n.Keys == 0 || n.Tables != m.Tables || n.Rows != m.Rows || n.Keys != m.Keys || n.Bytes != m.Bytes {
			t.Errorf("after %q: %+v in few statements, %+v streamed", change, n, m)
		}
		for _, s := range []*transfer.Source{few, many} {
			a.source = s
			if _, err := round(t, a, b, there, false); err != nil {
				t.Fatalf("after %q: %v", change, err)
			}
			same(t, change, contents(t, b, mover), contents(t, a, mover))
		}
	}
}
