package cell

import (
	"context"
	"log/slog"

	"github.com/cellway/cellway/cell/store"
)

// SweepOnce is what Sweeper.Run does each time.
func SweepOnce(ctx context.Context, s *store.Store) (int64, error) {
	return NewSweeper(s, slog.Default()).runOnce(ctx)
}

// SweepRound is one look of SweepOnce, and what follows from it.
func SweepRound(ctx context.Context, s *store.Store) (int64, error) {
	return NewSweeper(s, slog.Default()).round(ctx)
}

// Endpoints joins the modules' routes with the contract and counts them.
func Endpoints(modules ...Module) (int, error) {
	ops, err := operations()
	if err != nil {
		return 0, err
	}
	all, err := endpoints(ops, modules)
	return len(all), err
}
