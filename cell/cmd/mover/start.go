package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cellway/cellway/cell/mover"
	dirclient "github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// start moves tenants until ctx ends. Moves under way are let go where they are;
// the next mover goes on from what is recorded.
func start(ctx context.Context, cfg Config, log io.Writer) error {
	tel, err := telemetry.Start(ctx, "mover", cfg.ID, log)
	if err != nil {
		return err
	}
	defer tel.Close()
	dir, err := dirclient.New(dirclient.Options{URL: cfg.DirectoryURL, Token: string(cfg.DirectoryToken)})
	if err != nil {
		return err
	}
	id, err := openIdentity(cfg, tel)
	if err != nil {
		return err
	}
	cells := newCells(cfg, id)
	v := mover.New(mover.Config{
		ID: cfg.ID, Parallel: cfg.Parallel, LeaseTTL: cfg.LeaseTTL, Poll: cfg.Poll, Limits: cfg.limits(),
	}, dir, cells.of, tel.Log)
	v.Register(tel.Registry)

	admin := run.NewAdmin()
	ln, err := net.Listen("tcp", cfg.AdminAddr)
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	loops := run.NewGroup(context.WithoutCancel(ctx)) // the admin listener outlives the work
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, v.Stop)()
	defer context.AfterFunc(loops.Context(), stop)()
	loops.Go("admin", func(ctx context.Context) error {
		return run.Serve(ctx, ln, tel.Admin(admin), time.Second)
	})
	if id != nil {
		loops.Go("certificate", id.Run)
	}
	admin.SetReady(true)
	err = v.Run(work)
	admin.SetReady(false)
	loops.Stop()
	return errors.Join(err, loops.Wait())
}
