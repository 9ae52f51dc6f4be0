package directorytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// RunQuotas holds a Directory to the quotas that open gives it.
func RunQuotas(t *testing.T, open func(t *testing.T, q directory.Quotas) directory.Directory) {
	for name, tt := range map[string]struct {
		quotas directory.Quotas
		met    string
		other  bool // caller's may still create
	}{
		"directory": {directory.Quotas{Tenants: 10}, "directory", false},
		"caller":    {directory.Quotas{Tenants: 100, PerCaller: 10}, "caller", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{Directory: open(t, tt.quotas), ctx: directory.WithActor(t.Context(), Actor)}
			for _, id := range []directory.CellID{"c1", "c2"} {
				s.add(t, cell(id))
			}
			made := s.crowd(t, 50, tt.met)
			if len(made) != 10 {
				t.Errorf("got %d tenants of a quota of 10", len(made))
			}
			_, err := s.CreateTenant(directory.WithActor(t.Context(), "other"), directory.NewTenant{Slug: "others"})
			if (err == nil) != tt.other {
				t.Errorf("another caller: got %v", err)
			}
			if tt.other {
				return
			}
			for range 2 { // the second time nothing changes
				if err := s.DeleteTenant(s.ctx, made[0].ID); err != nil {
					t.Fatal(err)
				}
			}
			s.create(t, directory.NewTenant{Slug: "again"})
			s.refuse(t, "one too many", problem.Conflict, func() error {
				_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "over"})
				return err
			})
		})
	}
	t.Run("deleted ones are not the caller's", func(t *testing.T) {
		t.Parallel()
		s := &suite{Directory: open(t, directory.Quotas{PerCaller: 1}), ctx: directory.WithActor(t.Context(), Actor)}
		s.add(t, cell("c1"))
		for range 3 {
			made := s.create(t, directory.NewTenant{Slug: "a"})
			if err := s.DeleteTenant(directory.WithActor(t.Context(), "other"), made.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// crowd creates n tenants, eight at a time, and checks which quota the others met.
func (s *suite) crowd(t *testing.T, n int64, met string) (made []directory.Tenant) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var next atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				one, err := s.CreateTenant(context.WithoutCancel(s.ctx), directory.NewTenant{Slug: fmt.Sprint("t", i)})
				if p, ok := errors.AsType[*problem.Error](err); ok && p.Extra[directory.QuotaMember] == met {
					continue
				}
				if err != nil {
					t.Errorf("create: %v", err)
					continue
				}
				mu.Lock()
				made = append(made, one)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return made
}
