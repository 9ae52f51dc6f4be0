package deletion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// look asks the directory once, brings the fences in line and notes what is due. Where the
// directory does not answer nothing is: what was heard before counts no longer.
func (a *Agent) look(ctx context.Context) (err error) {
	var due map[directory.TenantID]directory.Deletion
	defer func() {
		if due == nil {
			a.note(nil)
		}
	}()
	if a.incarnation == "" {
		if a.incarnation, err = a.Store.Incarnation(ctx); err != nil {
			return err
		}
	}
	listed, err := a.list(ctx)
	if err != nil {
		return err
	}
	here, err := a.unpurged(ctx)
	if err != nil {
		return err
	}
	due = map[directory.TenantID]directory.Deletion{}
	waiting, disputed, failed := 0, 0, error(nil)
	for t, d := range listed {
		f := fence.Tombstone{Epoch: here[t].Epoch, State: fence.Deleted, Rested: here[t].Rested}
		if f.Epoch != d.Epoch {
			if f, err = a.stop(ctx, d); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		switch a.heed(ctx, d, f) {
		case purge:
			due[t] = d
			waiting++
		case wait, raise:
			waiting++
		case dispute:
			disputed++
		}
	}
	a.note(due) // before the rest, which may take its time
	lost, err := a.rest(ctx, here, listed)
	a.m.waiting.Set(float64(waiting))
	a.m.disputed.Set(float64(disputed + lost))
	return errors.Join(failed, err)
}

// list is what the directory says waits for this cell, by tenant.
func (a *Agent) list(ctx context.Context) (map[directory.TenantID]directory.Deletion, error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	all := map[directory.TenantID]directory.Deletion{}
	for after := directory.TenantID(0); ; {
		list, err := a.Directory.ListDeletions(ctx, a.Store.Cell(), after, page)
		if err != nil {
			return nil, fmt.Errorf("ask which tenants are deleted: %w", err)
		}
		for _, d := range list {
			all[d.Tenant], after = d, d.Tenant
		}
		if len(list) < page {
			return all, nil
		}
	}
}

// unpurged is the tombstones of what is left here, by tenant.
func (a *Agent) unpurged(ctx context.Context) (map[directory.TenantID]fence.Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	all := map[directory.TenantID]fence.Pending{}
	for after := directory.TenantID(0); ; {
		list, err := fence.Unpurged(ctx, a.Store.DB(), after, page)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			all[p.Tenant], after = p, p.Tenant
		}
		if len(list) < page {
			return all, nil
		}
	}
}

// stop makes the fence of a tenant that is deleted a tombstone.
func (a *Agent) stop(ctx context.Context, d directory.Deletion) (fence.Tombstone, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	f, err := fence.Delete(ctx, a.Store.DB(), d.Tenant, d.Epoch, freezeWait)
	if f.Changed {
		a.Log.InfoContext(ctx, "a tenant was deleted: nobody acts for it any more", "tenant", d.Tenant, "epoch", d.Epoch, "purge_at", d.PurgeAt)
	}
	return f, err
}

// heed says what follows from a deletion, and does what needs no purge. What fails is for
// the next look.
func (a *Agent) heed(ctx context.Context, d directory.Deletion, f fence.Tombstone) step {
	s := judge(d, f)
	switch s {
	case raise, report:
		switch err := a.tell(ctx, d.Tenant, f.Epoch, s == report); {
		case s == raise && errors.Is(err, problem.NotFound):
			a.warn(ctx, d.Tenant, f.Epoch, "the directory does not take it from this cell that a tenant is deleted at a later epoch: it stands still, and is kept, until an operator says what is to be")
			return dispute
		case err != nil:
			a.Log.WarnContext(ctx, "tell of a deleted tenant", "tenant", d.Tenant, "error", err)
		}
	case dispute:
		a.warn(ctx, d.Tenant, f.Epoch, "the directory has deleted a tenant at an older epoch than this cell knows: it is left alone until an operator says what is to be")
	}
	return s
}

// rest tells the directory of tombstones that it did not list: a database that was restored
// has what was purged again. lost counts those of which it knows no deletion, as it said within
// a minute. A directory that was restored may have lost very many: a look asks for some of them.
func (a *Agent) rest(ctx context.Context, here map[directory.TenantID]fence.Pending, listed map[directory.TenantID]directory.Deletion) (lost int, err error) {
	maps.DeleteFunc(a.unknown, func(t directory.TenantID, _ time.Time) bool {
		_, waits := here[t]
		_, known := listed[t]
		return known || !waits
	})
	asked := 0
	for t, p := range here {
		if _, ok := listed[t]; ok {
			continue
		}
		at, unknown := a.unknown[t]
		if asked == tellMost || unknown && time.Since(at) < tellAgain {
			if unknown {
				lost++
			}
			continue
		}
		asked++
		err := a.tell(ctx, t, p.Epoch, false)
		switch {
		case errors.Is(err, problem.NotFound):
			lost++
			a.unknown[t] = time.Now()
			a.warn(ctx, t, p.Epoch, "the directory does not know that a tenant of this cell was deleted: it stands still, and is kept, until an operator says what is to be")
		case err != nil:
			return lost, err
		default:
			delete(a.unknown, t)
		}
	}
	return lost, nil
}

func (a *Agent) tell(ctx context.Context, t directory.TenantID, e directory.Epoch, purged bool) error {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	if err := a.Directory.TellDeletion(ctx, a.Store.Cell(), a.incarnation, t, e, purged); err != nil {
		return fmt.Errorf("tell what is left of tenant %d: %w", t, err)
	}
	return nil
}

// warn says a thing once of a tenant.
func (a *Agent) warn(ctx context.Context, t directory.TenantID, e directory.Epoch, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said[t] != text {
		a.said[t] = text
		a.Log.WarnContext(ctx, text, "tenant", t, "epoch", e)
	}
}
