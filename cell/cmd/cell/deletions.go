package main

import (
	"context"

	"github.com/cellway/cellway/cell/deletion"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/run"
)

// deletions starts the agent that hears of deleted tenants and purges them. It ends
// with the front: the connections of its purges close behind it.
func (p *process) deletions(front context.Context, loops *run.Group) error {
	dir, err := client.New(client.Options{URL: p.cfg.DirectoryURL, Token: string(p.cfg.DirectoryToken), Attempts: 1})
	if err != nil {
		return err
	}
	o := deletion.Options{Store: p.store, Directory: dir, Keys: p.keep, Events: outbox.NewEraser(p.redis), Log: p.tel.Log, Registry: p.tel.Registry}
	if p.purger != nil { // else a nil pointer in the interface
		o.Rows = p.purger
	}
	agent := deletion.New(o)
	loops.Go("deletions", func(context.Context) error { return agent.Run(front) })
	return nil
}
