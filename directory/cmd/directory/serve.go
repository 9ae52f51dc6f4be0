package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// serve runs the directory until ctx ends or a part of it fails.
func serve(ctx context.Context, cfg Config) error {
	tel, err := telemetry.Start(ctx, "directory", cfg.Instance, os.Stderr)
	if err != nil {
		return err
	}
	defer tel.Close()
	record, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer record.Close()
	record.Grace = cfg.DeletionGrace
	record.Quotas = directory.Quotas{Tenants: cfg.MaxTenants, PerCaller: cfg.MaxPerCaller}
	api, err := server.New(server.Options{
		Directory: record, Rollouts: record, Keys: cfg.keys, Registry: tel.Registry, Stopping: ctx,
		Signup: cfg.Signup == "open", SignupsPerMinute: cfg.SignupsPerMinute, TenantsPerMinute: cfg.TenantsPerMinute, TokenTTL: cfg.TokenTTL,
		Schema: record.Schema,
	})
	if err != nil {
		return err
	}
	work, err := newWork(cfg, record, tel.Log)
	if err != nil {
		return err
	}
	admin := run.NewAdmin()
	admin.Check("database", record.Ping)
	handler := otelhttp.NewHandler(telemetry.HTTP(tel.Log, "directory", true, api), "directory")
	return listen(ctx, cfg, handler, admin, tel.Admin(admin), work)
}

// openStore brings the schema up to date and opens the record.
func openStore(ctx context.Context, cfg Config) (*store.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // a long migration is run by hand
	defer cancel()
	if err := store.Migrate(ctx, string(cfg.DatabaseURL)); err != nil {
		return nil, err
	}
	return store.Open(ctx, string(cfg.DatabaseURL), cfg.DatabasePool)
}

// listen serves both listeners and does the background work. The order of
// stopping: not ready; long polls answer and the API stops listening; requests
// under way finish; then background work and the admin listener, which shows the
// drain until it is over. The caller closes the record and sends what telemetry
// holds back.
func listen(ctx context.Context, cfg Config, api http.Handler, admin *run.Admin, pages http.Handler, work []task) error {
	apiLn, err := net.Listen("tcp", cfg.ListenAddr)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	adminLn, err := net.Listen("tcp", cfg.AdminAddr)
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	group := run.NewGroup(ctx)
	// The rest outlives ctx until the API has stopped.
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	group.Go("api", func(ctx context.Context) error {
		defer stopRest()
		return run.Serve(ctx, apiLn, api, cfg.StopGrace)
	})
	group.Go("admin", func(context.Context) error { return run.Serve(rest, adminLn, pages, time.Second) })
	for _, t := range work {
		group.Go(t.name, func(context.Context) error { return t.run(rest) })
	}
	admin.SetReady(true)
	defer context.AfterFunc(group.Context(), func() { admin.SetReady(false) })()
	return group.Wait()
}

// A task is background work: it runs until its context ends.
type task struct {
	name string
	run  func(ctx context.Context) error
}
