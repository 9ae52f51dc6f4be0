package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
)

// A readFirst is a stream that is there when first has looked.
type readFirst struct {
	first func() error
	io.Reader
}

func (r *readFirst) Read(b []byte) (int, error) {
	if first := r.first; first != nil {
		r.first = nil
		if err := first(); err != nil {
			return 0, err
		}
	}
	return r.Reader.Read(b)
}

// TestATargetIsClearedBeforeTheSourceIsAsked: an undo that copies everything over a large kept copy keeps no transaction of
// the source open while that is deleted. What the source refuses leaves the kept copy, and a later round deletes nothing so.
func TestATargetIsClearedBeforeTheSourceIsAsked(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	steps(t, a, b, there)
	must(t, b.do(t, mover, 2, `DELETE FROM app.part WHERE no = 2`))
	must(t, a.Reserve(ctx, asAny(back)))
	must(t, b.Arm(ctx, back, wait))
	kept := contents(t, a, mover)

	step := transfer.Step{Move: back.ID, Tenant: mover, Epoch: back.Base + 1}
	apply := func(since string, cleared bool, refuse error) (transfer.Received, error) {
		t.Helper()
		var stream bytes.Buffer
		return a.target.Apply(ctx, step, false, &readFirst{Reader: &stream, first: func() error {
			const deleted = `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'app.counter'::regclass AND mode = 'RowExclusiveLock'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
			var is bool
			must(t, a.owner.QueryRow(ctx, deleted).Scan(&is))
			if is != cleared {
				t.Errorf("since %q: cleared before the source is asked: %v, want %v", since, is, cleared)
			}
			if refuse != nil {
				return refuse
			}
			_, err := b.source.Stream(ctx, &stream, back.ID, mover, since)
			return err
		}})
	}
	refused := errors.New("as many copies as it makes at once")
	if _, err := apply("", true, refused); err == nil {
		t.Error("what the source refused was applied")
	}
	same(t, "after a refusal", contents(t, a, mover), kept)
	got, err := apply("", true, nil)
	must(t, err)
	same(t, "after the copy", contents(t, a, mover), contents(t, b, mover))
	must(t, b.do(t, mover, 2, `UPDATE app.part SET label = 'later' WHERE no = 1`))
	_, err = apply(got.Snapshot, false, nil)
	must(t, err)
	same(t, "after a round", contents(t, a, mover), contents(t, b, mover))
}

// TestKeysAreForgottenInLargeBatches: an undo waits until what its target noted before is gone.
func TestKeysAreForgottenInLargeBatches(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	ctx := t.Context()
	_, err := a.owner.Exec(ctx, `INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT 7, 'app.part', jsonb_build_array(n) FROM generate_series(1, 450) n`)
	must(t, err)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, err := transfer.NewPurger(a.mover, 100, time.Hour).Keys(ctx, mover)
	if err != nil || n != 450 {
		t.Errorf("forgot %d notes, %v, want all 450 without a rest", n, err)
	}
}
