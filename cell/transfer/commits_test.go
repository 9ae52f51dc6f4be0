package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
)

// ledger is two tables that say the same: an account's balance is the sum of its entries. Its check, unique key and
// foreign key are the schema's.
const ledger = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE app.account (tenant_id bigint NOT NULL, id integer NOT NULL, slug text NOT NULL, balance bigint NOT NULL CHECK (balance >= 0), pad text,
		PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, slug));
	CREATE TABLE app.entry (tenant_id bigint NOT NULL, id integer NOT NULL, account integer NOT NULL, amount bigint NOT NULL,
		PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, account) REFERENCES app.account (tenant_id, id) ON DELETE CASCADE);`

// looker looks at a target's rows at the end of each transaction that has written some, however its triggers are switched off.
const looker = `
	CREATE TABLE public.looked (xid xid8 PRIMARY KEY, wrong text NOT NULL);
	CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	BEGIN
		INSERT INTO public.looked
		SELECT pg_current_xact_id(), concat_ws(', ',
		       (SELECT 'an entry without its account' FROM app.entry e WHERE NOT EXISTS (SELECT FROM app.account a WHERE (a.tenant_id, a.id) = (e.tenant_id, e.account)) LIMIT 1),
		       (SELECT 'a slug twice' FROM app.account GROUP BY tenant_id, slug HAVING count(*) > 1 LIMIT 1),
		       (SELECT 'a balance below 0' FROM app.account WHERE balance < 0 LIMIT 1),
		       (SELECT 'a balance that is not the sum' FROM app.account a
		         WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM app.entry e WHERE (a.tenant_id, a.id) = (e.tenant_id, e.account)) LIMIT 1))
		 WHERE NOT EXISTS (SELECT FROM public.looked WHERE xid = pg_current_xact_id());
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON app.account DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.look();
	CREATE CONSTRAINT TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON app.entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.look();
	ALTER TABLE app.account ENABLE ALWAYS TRIGGER look;
	ALTER TABLE app.entry ENABLE ALWAYS TRIGGER look;`

// meanwhile is a stream during whose first piece something happens.
type meanwhile struct {
	bytes.Buffer
	do func()
}

func (m *meanwhile) Write(b []byte) (int, error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Buffer.Write(b)
}

// TestConstraintsHoldAtEachCommit: at the end of each transaction that writes at the target, and not only when the move is
// verified, its rows are those of one moment of the source: keys find their rows, what is unique is, and sums are right (I8).
// The tenant writes all the time, also while a round is sent.
func TestConstraintsHoldAtEachCommit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newCell(t, "a", ledger, "app.account", "app.entry"), newCell(t, "b", ledger, "app.account", "app.entry")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	_, err = b.owner.Exec(ctx, looker)
	must(t, err)
	run := func(sql string) {
		t.Helper()
		must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, sql) }))
	}
	run(`INSERT INTO app.account SELECT 7, n, 's' || n, 10, pg_catalog.repeat('x', 300) FROM pg_catalog.generate_series(1, 600) n;
		INSERT INTO app.entry SELECT 7, n, (n + 1) / 2, 5 FROM pg_catalog.generate_series(1, 1200) n`)
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))

	few := a.source
	many, parts := transfer.NewSource(a.mover, nil), transfer.NewSource(a.mover, nil)
	many.StreamEverything()
	parts.StreamEverything()
	parts.HoldKeys(2000)
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	commits := 0
	for i, source := range []*transfer.Source{few, many, parts, few, few} {
		final := i == 4
		change := func() {
			run(fmt.Sprintf(`
				INSERT INTO app.account VALUES (7, %[1]d, 'new %[1]d', 7, pg_catalog.repeat('x', 300));
				INSERT INTO app.entry VALUES (7, %[1]d, %[1]d, 3), (7, %[1]d + 1, %[1]d, 4);
				DELETE FROM app.account WHERE id = %[2]d;
				UPDATE app.account SET slug = 'gone' WHERE id = %[2]d + 1;
				UPDATE app.account SET slug = 's' || (%[2]d + 1) WHERE id = %[2]d + 300;
				UPDATE app.account SET slug = 's' || (%[2]d + 300) WHERE id = %[2]d + 1;
				UPDATE app.account SET balance = balance - 1 WHERE id = %[2]d + 1;
				UPDATE app.entry SET amount = amount - 1 WHERE account = %[2]d + 1 AND id %% 2 = 0`, 2000+10*i, 10*(i+1)))
		}
		change()
		switch {
		case final:
			must(t, a.Freeze(ctx, there, wait))
		case i == 1, i == 2: // so much that it is not sent at once
			run(`UPDATE app.account SET pad = pg_catalog.repeat('y', 300) WHERE id <= 600`)
		}
		have, err := b.target.Received(ctx, step)
		must(t, err)
		stream := &meanwhile{do: func() {
			if !final {
				i += 20
				change()
				i -= 20
			}
		}}
		_, err = source.Stream(ctx, stream, there.ID, mover, have.Snapshot)
		must(t, err)
		if _, err := b.target.Apply(ctx, step, final, stream); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		commits++
	}
	must(t, b.Activate(ctx, there))
	same(t, "at last", contents(t, b, mover), contents(t, a, mover))
	rows := b.texts(t, `SELECT wrong FROM public.looked ORDER BY xid`)
	if len(rows) != commits {
		t.Errorf("%d commits were looked at, want one of each of %d rounds", len(rows), commits)
	}
	for i, wrong := range rows {
		if wrong != "" {
			t.Errorf("at commit %d the target has %s", i, wrong)
		}
	}
}
