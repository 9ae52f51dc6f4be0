package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/consul"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/problem"
)

// newWork is the background work of this process.
func newWork(cfg Config, record *store.Store, log *slog.Logger) ([]task, error) {
	k := &keeper{leaser: record.Leaser(), holder: cfg.Instance, record: record, keep: cfg.KeepVersions, audit: cfg.AuditKeep, log: log}
	st := &stager{record, log}
	if cfg.ConsulAddr == "" {
		return []task{{"prune", k.Run}, {"roll-outs", st.Run}}, nil
	}
	agent, err := consul.New(cfg.ConsulAddr)
	if err != nil {
		return nil, err
	}
	k.leaser = agent.Leaser()
	m := &mirror{from: agent.Membership(), to: record, log: log}
	return []task{{"prune", k.Run}, {"roll-outs", st.Run}, {"mirror", m.Run}}, nil
}

// A keeper forgets what nobody needs any more. It is singleton work: of all
// directory processes the one with the lease does it.
type keeper struct {
	leaser directory.Leaser
	holder string
	record *store.Store
	keep   int64
	audit  time.Duration
	log    *slog.Logger
}

const (
	pruneEvery = time.Minute
	// silent is how long a router or an announced cell is shown after it was last
	// heard of: long enough for an operator to see who is missing.
	silent = time.Hour
)

// Run prunes for as long as ctx lasts and whenever this process has the lease.
func (k *keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := k.leaser.Acquire(ctx, "prune", k.holder)
		if err == nil {
			k.work(lease.Context())
			err = lease.Release()
		}
		if err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "prune: no lease", "error", err)
		}
		wait(ctx, time.Second)
	}
	return nil
}

// work prunes until the lease ends.
func (k *keeper) work(ctx context.Context) {
	k.log.InfoContext(ctx, "prune: lease acquired")
	for ctx.Err() == nil {
		if err := k.runOnce(ctx); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "prune", "error", err)
		}
		wait(ctx, pruneEvery)
	}
}

func (k *keeper) runOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	gone, err := k.record.Prune(ctx, k.keep, silent)
	if err == nil && gone != (store.Pruned{}) {
		k.log.InfoContext(ctx, "pruned", "changes", gone.Changes, "routers", gone.Routers, "cells", gone.Cells)
	}
	if err != nil {
		return err
	}
	lines, err := k.record.PruneAudit(ctx, k.audit)
	if lines > 0 {
		k.log.InfoContext(ctx, "pruned", "audit", lines)
	}
	return err
}

// A stager takes the roll-out that is running from wave to wave. Every directory
// process does it: the row's lock lets one of them decide, and none has to wait for
// a lease to change hands before it can halt one.
type stager struct {
	record *store.Store
	log    *slog.Logger
}

// Run steps until ctx ends.
func (s *stager) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.runOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "roll-out not looked at", "error", err)
		}
		wait(ctx, time.Second)
	}
	return nil
}

func (s *stager) runOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(directory.WithActor(ctx, "directory"), 30*time.Second)
	defer cancel()
	r, stepped, err := s.record.StepRollout(ctx)
	if err != nil || !stepped {
		return err
	}
	level := slog.LevelInfo
	if r.State == directory.RolloutHalted {
		level = slog.LevelWarn
	}
	s.log.Log(ctx, level, "roll-out goes on", "rollout", r.ID, "state", r.State, "wave", r.Wave, "routers", r.Routers, "reason", r.Reason)
	return nil
}

// wait pauses for d, a quarter more or less, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d*3/4 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A mirror notes the members of another backend in the record as heartbeats, so
// that placement sees one health. Every directory process does it: the notes are
// the same, and none has to wait for a lease to change hands.
type mirror struct {
	from directory.Membership
	to   directory.Cells
	log  *slog.Logger
}

// mirrorEvery leaves a cell two missed rounds before it counts as silent.
const mirrorEvery = directory.HeartbeatTTL / 3

// Run mirrors until ctx ends.
func (m *mirror) Run(ctx context.Context) error {
	for index := uint64(0); ctx.Err() == nil; {
		next, err := m.runOnce(ctx, index)
		if err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "mirror cells", "error", err)
			wait(ctx, time.Second)
		}
		index = next
	}
	return nil
}

// runOnce waits for another set of members, at most for mirrorEvery, and notes
// that they are alive. A member that is not registered yet is passed over.
func (m *mirror) runOnce(ctx context.Context, index uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, mirrorEvery+10*time.Second)
	defer cancel()
	members, next, err := m.from.Members(ctx, index, mirrorEvery)
	if err != nil {
		return 0, err
	}
	for _, c := range members {
		err := m.to.Heartbeat(ctx, c.ID, c.Incarnation)
		if err != nil && !errors.Is(err, problem.NotFound) && !errors.Is(err, problem.Conflict) {
			return 0, err
		}
	}
	return next, nil
}
