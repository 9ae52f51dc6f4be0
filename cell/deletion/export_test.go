package deletion

import "context"

// RunOnce is a look and what follows from it.
func (a *Agent) RunOnce(ctx context.Context) error {
	err := a.look(ctx)
	a.purgeAll(ctx)
	return err
}
