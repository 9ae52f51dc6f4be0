package main

import (
	"context"
	"net/http"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/run"
)

// transferPool is the number of connections for moves: each takes one at a time,
// a copy for as long as it runs.
const transferPool = 16

// How the rows that a move leaves behind are deleted: so many at a time, with a
// rest between, for the others in the cell.
const (
	purgeBatch = 2000
	purgeRest  = 20 * time.Millisecond
)

// transfer puts the transfer endpoint on the admin listener, where the role for
// it is configured. The function returned closes its pool.
func (p *process) transfer(ctx context.Context, admin *run.Admin) (func(), error) {
	if p.cfg.MoverDatabaseURL == "" {
		return func() {}, nil
	}
	pool, err := transfer.Open(ctx, string(p.cfg.MoverDatabaseURL), transferPool)
	if err != nil {
		return nil, err
	}
	keys := transfer.NewKeys(p.keep, p.tel.Log)
	keys.Register(p.tel.Registry)
	server := &transfer.Server{
		Steps: transfer.NewSteps(pool, p.cfg.ID), Source: transfer.NewSource(pool, p.pace), Target: transfer.NewTarget(pool, p.pace),
		Purger: transfer.NewPurger(pool, purgeBatch, purgeRest), Redis: keys, Pool: pool,
		Keys: p.cfg.tokens, Token: string(p.cfg.DirectoryToken), Log: p.tel.Log,
		// No deadline of its own: a copy takes as long as it takes, under its mover's context.
		Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: transferPool, IdleConnTimeout: time.Minute}},
	}
	admin.Handle(transfer.Prefix, server.Handler())
	return pool.Close, nil
}
