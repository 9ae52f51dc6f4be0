package deletion

import "context"

// RunOnce is a look and what follows from it.
func (a *Agent) RunOnce(ctx context.Context) error {
	err := a.Look(ctx)
	a.PurgeAll(ctx)
	return err
}

// Look is a look alone.
func (a *Agent) Look(ctx context.Context) error { return a.look(ctx) }

// PurgeAll is what follows from the last look.
func (a *Agent) PurgeAll(ctx context.Context) { a.purgeAll(ctx) }
