package directorytest_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	directorytest.Run(t, func(*testing.T) directory.Directory { return directorytest.NewMemory() })
}

func TestMemoryMoves(t *testing.T) {
	t.Parallel()
	directorytest.RunMoves(t, func(*testing.T) directory.Directory { return directorytest.NewMemory() })
}

func TestMemoryRestored(t *testing.T) {
	t.Parallel()
	directorytest.RunRestored(t, func(*testing.T) directorytest.Restorable {
		m := directorytest.NewMemory()
		return directorytest.Restorable{Directory: m, Restored: func(*testing.T) { m.Restored() }, Later: move(m)}
	})
}

// move has time pass for m.
func move(m *directorytest.Memory) func(*testing.T, time.Duration) {
	var passed atomic.Int64
	m.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	return func(_ *testing.T, d time.Duration) { passed.Add(int64(d)) }
}

func TestMemoryForgetsWhoIsSilent(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	m := directorytest.NewMemory()
	m.Now = func() time.Time { return now }
	ctx := t.Context()
	if _, err := m.AddCell(ctx, directory.Cell{ID: "c1", Address: "http://c1", Capacity: 1, Incarnation: "db"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Changes(ctx, "r1", 0, 0); err != nil {
		t.Fatal(err)
	}
	now = now.Add(directory.HeartbeatTTL)
	c, err := m.Cell(ctx, "c1")
	if err != nil || c.Healthy {
		t.Errorf("silent cell: got healthy %v, %v", c.Healthy, err)
	}
	w, err := m.Watermark(ctx)
	if err != nil || w.Routers[0].Live || w.Watermark != w.Version {
		t.Errorf("silent router: got %+v, %v", w, err)
	}
	if _, err := m.CreateTenant(ctx, directory.NewTenant{Slug: "a"}); !errors.Is(err, problem.Conflict) {
		t.Errorf("place on a silent cell: got %v, want conflict", err)
	}
}

func TestMemoryKeepsSoManyVersions(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	m.Keep = 2
	for _, id := range []directory.CellID{"c1", "c2", "c3"} {
		if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 1, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Changes(t.Context(), "", 1, 0); err != nil {
		t.Errorf("two versions back: %v", err)
	}
	if _, err := m.Changes(t.Context(), "", 0, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("three versions back: got %v, want gone", err)
	}
}

func TestMemoryQuotas(t *testing.T) {
	t.Parallel()
	directorytest.RunQuotas(t, func(_ *testing.T, q directory.Quotas) directory.Directory {
		m := directorytest.NewMemory()
		m.Quotas = q
		return m
	})
}
