package stack

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
)

// The groups in which a stack stops: who asks before who is asked.
const (
	groupRouters = iota
	groupCells
	groupDirectory
	groupRedis
	groupPostgres
	groups
)

// groupOf is the group of the process called name.
func groupOf(name string) int {
	switch {
	case strings.HasSuffix(name, "-postgres"):
		return groupPostgres
	case strings.HasSuffix(name, "-redis"):
		return groupRedis
	case strings.HasPrefix(name, "router-"), strings.HasPrefix(name, "mover-"):
		return groupRouters
	case name == "directory":
		return groupDirectory
	}
	return groupCells
}

// Stop stops everything in order: routers and movers, cells, directory, Redis, Postgres. A
// child that takes too long is killed, which is an error. It may be called twice.
func (s *Stack) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Stack) stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	var order [groups][]*child
	for name, c := range s.children {
		order[groupOf(name)] = append(order[groupOf(name)], c)
		c.asked = true
	}
	s.mu.Unlock()
	var errs []error
	for _, group := range order {
		errs = append(errs, together(group, func(c *child) error { return s.halt(ctx, c) }))
	}
	s.trust.close()
	s.watchers.Wait()
	close(s.failed)
	if s.plan != nil {
		errs = append(errs, s.plan.save())
	}
	if err := os.Remove(statePath(s.opts.Dir)); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.lock.Remove())...)
}

// together runs f for each item at the same time and joins the errors.
func together[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = f(item) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
