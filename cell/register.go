package cell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Registrar is what a cell needs of the directory. *client.Client implements it.
type Registrar interface {
	AddCell(ctx context.Context, c directory.Cell) (directory.Cell, error)
	Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error
}

// How a cell keeps in touch with the directory.
const (
	heartbeatEvery = 3 * time.Second        // well within directory.HeartbeatTTL
	registerFirst  = 200 * time.Millisecond // pause after the first failure; doubles up to heartbeatEvery
	directoryCall  = 2 * time.Second        // deadline of one call
)

// Announce registers the cell and says that it is alive until ctx ends. While the
// directory does not answer it goes on trying: the cell serves its tenants without.
// It returns an error only where the directory knows the cell's id with another
// database: such a cell must not serve.
func Announce(ctx context.Context, dir Registrar, c directory.Cell, log *slog.Logger) error {
	registered, backoff := false, registerFirst
	for {
		err := announceOnce(ctx, dir, c, &registered)
		pause := heartbeatEvery
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, problem.Conflict):
			return fmt.Errorf("register cell %s: %w", c.ID, err)
		case err != nil:
			log.WarnContext(ctx, "directory does not know that this cell is alive", "error", err)
			pause, backoff = backoff, min(2*backoff, heartbeatEvery)
		default:
			backoff = registerFirst
		}
		wait(ctx, jitter(pause))
	}
}

// Join announces the cell to a membership beside the directory and returns when
// ctx ends. Until it succeeds, it tries again: the membership is not needed to serve.
func Join(ctx context.Context, m directory.Membership, c directory.Cell, log *slog.Logger) error {
	pause := registerFirst
	for ctx.Err() == nil {
		err := m.Join(ctx, c) // keeps the cell alive until ctx ends
		if err == nil {
			<-ctx.Done()
			return nil
		}
		log.WarnContext(ctx, "membership does not know that this cell is alive", "error", err)
		wait(ctx, jitter(pause))
		pause = min(2*pause, heartbeatEvery)
	}
	return nil
}

// announceOnce registers, or reports that it is alive what is registered already.
func announceOnce(ctx context.Context, dir Registrar, c directory.Cell, registered *bool) error {
	ctx, cancel := context.WithTimeout(ctx, directoryCall)
	defer cancel()
	if *registered {
		err := dir.Heartbeat(ctx, c.ID, c.Incarnation)
		if !errors.Is(err, problem.NotFound) && !errors.Is(err, problem.Conflict) {
			return err
		}
		// A directory that has lost us, or whose database was restored, gets us again. Whether
		// ours is the cell's database is said there.
		*registered = false
	}
	if _, err := dir.AddCell(ctx, c); err != nil {
		return err
	}
	*registered = true
	return nil
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// jitter is d, give or take a fifth, so that cells do not come all at once.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5+1)
}
