package main

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/run"
)

// The numbers of connections for moves out of the cell, for those into it, and for
// their steps: each takes one at a time, a copy for as long as it runs, and the step
// that a tenant waits for must not wait for copies.
const (
	transferPool = 10
	replicaPool  = 10
	stepsPool    = 4
)

// How the rows that a move leaves behind are deleted: so many at a time, with a
// rest between, for the others in the cell.
const (
	purgeBatch = 2000
	purgeRest  = 20 * time.Millisecond
)

// transfer makes the transfer endpoint, where the role for it is configured, nil
// elsewhere. A cell without a certificate has it on the admin listener. The
// function returned closes its pools.
func (p *process) transfer(ctx context.Context, admin *run.Admin, id *certs.Identity) (http.Handler, func(), error) {
	if p.cfg.MoverDatabaseURL == "" {
		return nil, func() {}, nil
	}
	var pools []*pgxpool.Pool
	closeAll := func() {
		for _, pool := range pools {
			pool.Close()
		}
	}
	for _, o := range []struct {
		open func(context.Context, string, int32) (*pgxpool.Pool, error)
		size int32
	}{{transfer.Open, transferPool}, {transfer.OpenReplica, replicaPool}, {transfer.Open, stepsPool}} {
		pool, err := o.open(ctx, string(p.cfg.MoverDatabaseURL), o.size)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		pools = append(pools, pool)
	}
	pool, replica, steps := pools[0], pools[1], pools[2]
	keys := transfer.NewKeys(p.keep, p.tel.Log)
	keys.Register(p.tel.Registry)
	p.purger = transfer.NewPurger(replica, purgeBatch, purgeRest)
	server := &transfer.Server{
		Steps: transfer.NewSteps(steps, p.cfg.ID), Source: transfer.NewSource(pool, p.pace), Target: transfer.NewTarget(replica, p.pace),
		Purger: p.purger, Redis: keys, Pool: pool,
		Keys: p.cfg.control, Log: p.tel.Log,
		// No deadline of its own: a copy takes as long as it takes, under its mover's context.
		Client: &http.Client{Transport: sourceTransport(id)},
	}
	if id == nil {
		admin.Handle(transfer.Prefix, server.Handler())
	}
	return server.Handler(), closeAll, nil
}

// sourceTransport is how the cell calls the source of a move: which cell that is,
// the mover says, and any cell's certificate will do.
func sourceTransport(id *certs.Identity) *http.Transport {
	t := &http.Transport{MaxIdleConnsPerHost: transferPool, IdleConnTimeout: time.Minute}
	if id != nil {
		t.TLSClientConfig = id.ClientConfig(certs.RoleCell, "")
	}
	return t
}
