package main

import (
	"context"
	"net/http"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/run"
)

// The numbers of connections for moves out of the cell and for those into it: each
// takes one at a time, a copy for as long as it runs.
const (
	transferPool = 12
	replicaPool  = 12
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
	pool, err := transfer.Open(ctx, string(p.cfg.MoverDatabaseURL), transferPool)
	if err != nil {
		return nil, nil, err
	}
	replica, err := transfer.OpenReplica(ctx, string(p.cfg.MoverDatabaseURL), replicaPool)
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	keys := transfer.NewKeys(p.keep, p.tel.Log)
	keys.Register(p.tel.Registry)
	server := &transfer.Server{
		Steps: transfer.NewSteps(pool, p.cfg.ID), Source: transfer.NewSource(pool, p.pace), Target: transfer.NewTarget(replica, p.pace),
		Purger: transfer.NewPurger(replica, purgeBatch, purgeRest), Redis: keys, Pool: pool,
		Keys: p.cfg.tokens, Token: string(p.cfg.DirectoryToken), Log: p.tel.Log,
		// No deadline of its own: a copy takes as long as it takes, under its mover's context.
		Client: &http.Client{Transport: sourceTransport(id)},
	}
	if id == nil {
		admin.Handle(transfer.Prefix, server.Handler())
	}
	return server.Handler(), func() { pool.Close(); replica.Close() }, nil
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
