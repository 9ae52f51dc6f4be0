package transfer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
)

// TestLongKeysTravelInFramesOfBoundedSize: many long keys, and few that are longer as
// JSON than they are; whatever the round is made of, its frames can be read.
func TestLongKeysTravelInFramesOfBoundedSize(t *testing.T) {
	t.Parallel()
	const ddl = `
		CREATE SCHEMA app;
		GRANT USAGE ON SCHEMA app TO cell_app;
		CREATE TABLE app.long (tenant_id bigint NOT NULL, k text NOT NULL, v integer NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, k));`
	ctx := t.Context()
	a, b := newCell(t, "a", ddl, "app.long"), newCell(t, "b", ddl, "app.long")
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	for what, insert := range map[string]string{
		"many long keys": `SELECT pg_catalog.repeat('long ', 300) || n FROM pg_catalog.generate_series(1, 3000) n`,
		"few of signs":   `SELECT pg_catalog.repeat('<', 2400) || n FROM pg_catalog.generate_series(1, 100) n`,
		"very long ones": `SELECT pg_catalog.repeat('x', 100000) || n FROM pg_catalog.generate_series(1, 30) n`,
	} {
		must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error {
			return execAll(ctx, tx, `DELETE FROM app.long; INSERT INTO app.long (tenant_id, k) SELECT 7, k FROM (`+insert+`) AS new (k)`)
		}))
		have, err := b.target.Received(ctx, transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2})
		must(t, err)
		var made bytes.Buffer
		if _, err := a.source.Stream(ctx, &made, there.ID, mover, have.Snapshot); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if n := longestFrame(made.Bytes()); n > 512<<10 {
			t.Errorf("%s: a frame of %d bytes", what, n)
		}
		if _, err := round(t, a, b, there, false); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		same(t, what, contents(t, b, mover), contents(t, a, mover))
	}
}

func longestFrame(b []byte) (n uint32) {
	for len(b) >= 5 {
		size := binary.BigEndian.Uint32(b[1:])
		n, b = max(n, size), b[5+size:]
	}
	return n
}
