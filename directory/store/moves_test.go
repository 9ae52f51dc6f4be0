package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

func TestStoreMoves(t *testing.T) {
	t.Parallel()
	directorytest.RunMoves(t, func(t *testing.T) directory.Directory { return open(t, fresh(t)) })
}

// withMoves is a record with two tenants under way from c1 to c2, leased by m1.
func withMoves(t *testing.T) (*store.Store, *pgxpool.Pool, [2]directory.Move) {
	t.Helper()
	s, pool := withCell(t)
	addCell(t, s, "c2")
	var moves [2]directory.Move
	for i := range moves {
		one, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.CreateMove(t.Context(), directory.NewMove{Tenant: one.ID, Target: "c2"})
		if err != nil {
			t.Fatal(err)
		}
		if moves[i], err = s.LeaseMove(t.Context(), m.ID, "m1", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	return s, pool, moves
}

// Nobody can take a tenant from its move through the store. A hand in the
// database, or a restored backup, can: then the move may not place it.
func TestMovesDoNotPlaceWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	s, pool, moves := withMoves(t)
	m := moves[0]
	exec(t, pool, `UPDATE directory.moves SET phase = 'staged', previous = 'frozen' WHERE id = $1`, m.ID)
	for what, sql := range map[string]string{
		"another epoch": `UPDATE directory.tenants SET epoch = 2 WHERE id = $1`,
		"another cell":  `UPDATE directory.tenants SET cell = 'c2' WHERE id = $1`,
		"deleted":       `UPDATE directory.tenants SET state = 'deleted' WHERE id = $1`,
	} {
		exec(t, pool, sql, int64(m.Tenant))
		before, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []directory.Phase{directory.Decided, directory.Aborting} {
			next := m
			next.Phase = to
			if err := s.Advance(t.Context(), next, directory.Staged); !errors.Is(err, problem.Conflict) {
				t.Errorf("%s: %s: got %v, want conflict", what, to, err)
			}
		}
		after, err := s.Snapshot(t.Context())
		got, missing := s.Move(t.Context(), m.ID)
		if err != nil || missing != nil || after.Version != before.Version || got.Phase != directory.Staged {
			t.Errorf("%s: got version %d, move %+v, %v, %v, want nothing changed", what, after.Version, got, err, missing)
		}
		exec(t, pool, `UPDATE directory.tenants SET cell = 'c1', epoch = 1, state = 'active' WHERE id = $1`, int64(m.Tenant))
	}
}

// The schema knows the same transitions as the rules, and one move at a time.
func TestMovesInTheSchema(t *testing.T) {
	t.Parallel()
	_, pool, moves := withMoves(t)
	phases := []directory.Phase{
		directory.Planned, directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen, directory.Staged,
		directory.Decided, directory.Activated, directory.Watching, directory.Completed, directory.Aborting, directory.Aborted, directory.Undone,
	}
	const enter = `UPDATE directory.moves SET previous = $2, phase = $3, undone_by = $4 WHERE id = $1`
	for _, from := range phases {
		for _, to := range phases {
			_, err := pool.Exec(t.Context(), enter, moves[0].ID, from, to, moves[1].ID)
			if got, want := err == nil, from.CanBecome(to); got != want {
				t.Errorf("%s to %s: got allowed %v, want %v", from, to, got, want)
			}
		}
	}
	exec(t, pool, `UPDATE directory.moves SET previous = '', phase = 'planned', undone_by = NULL WHERE id = $1`, moves[0].ID)
	_, err := pool.Exec(t.Context(), `UPDATE directory.moves SET tenant = $1 WHERE id = $2`, int64(moves[0].Tenant), moves[1].ID)
	if pg.Code(err) != pg.UniqueViolation {
		t.Errorf("two moves of one tenant: got %v, want a unique violation", err)
	}
}
