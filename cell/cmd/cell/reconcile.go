package main

import (
	"time"

	"github.com/cellway/cellway/cell/reconcile"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/run"
)

// reconcileCall bounds one call of the directory: to abort many moves takes it a
// while, and what it did not finish the agent asks for again.
const reconcileCall = 15 * time.Second

// reconcile starts the agent that lets the database serve after its server was
// started anew. Requests that are refused until then wake it, and wait a moment.
func (p *process) reconcile(loops *run.Group, admin *run.Admin) error {
	dir, err := client.New(client.Options{
		URL: p.cfg.DirectoryURL, Token: string(p.cfg.DirectoryToken), Attempts: 1, Timeout: reconcileCall,
	})
	if err != nil {
		return err
	}
	agent := reconcile.New(reconcile.Options{
		Store: p.store, Directory: dir, Log: p.tel.Log, Registry: p.tel.Registry, Serving: p.db.Serving,
	})
	p.db.OnSuspect(agent.Wake)
	admin.Check("fence", agent.Ready)
	loops.Go("reconcile", agent.Run)
	return nil
}
