package router

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/cellway/cellway/infra/problem"
)

// TestATimeoutTellsOfTheCell, and a client that leaves does not.
func TestATimeoutTellsOfTheCell(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]bool{context.DeadlineExceeded: true, context.Canceled: false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		if !telling(r) {
			t.Error("a request under way tells nothing")
		}
		cancel(cause)
		if telling(r) != want || fault(r, problem.New(problem.CellUnavailable, "x")) != want {
			t.Errorf("%v: telling %v, fault %v, want %v", cause, telling(r), fault(r, problem.New(problem.CellUnavailable, "x")), want)
		}
	}
}
