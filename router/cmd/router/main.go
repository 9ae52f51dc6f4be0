// Router is the global endpoint's process: see package router.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/handover"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/keyring"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

func main() {
	run.Service("router", func(ctx context.Context) error {
		var s settings
		if done, err := config.Command("router", prefix, os.Args[1:], os.Environ(), os.Stdout, &s); done || err != nil {
			return err
		}
		return serve(ctx, s)
	})
}

// serve runs the router until ctx ends or another process has taken over. The
// order of stopping: not ready, so that balancers look elsewhere; stop listening
// and finish the requests, which still need the table; then stop following, save
// the table, close connections, and send the last spans.
func serve(ctx context.Context, s settings) (err error) {
	tel, err := telemetry.Start(ctx, "router", s.ID, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tel.Close()) }()
	socks, err := handover.Open(ctx, s.HandoverSocket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, socks.Close()) }()
	o, err := s.options()
	if err != nil {
		return err
	}
	feed, err := client.New(client.Options{URL: s.DirectoryURL, Token: string(s.DirectoryToken)})
	if err != nil {
		return err
	}
	tab := table.New()
	tab.SetGuard(table.Guard{Share: s.TableMaxTaken, AtMost: 100})
	disk := table.NewDisk(s.TableFile, s.BaseDomain, tab, tel.Log)
	if err := disk.Load(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		tel.Log.ErrorContext(ctx, "no good table on disk; waiting for the directory", "error", err)
	}
	ring := &token.Ring{}
	keyFile := keyring.New(s.TableFile+".keys", ring, tel.Log)
	keyFile.Load(ctx)
	tel.Registry.MustRegister(keyFile.Metrics()...)
	o.Chain.Ring = ring
	o.Table, o.Refresh = tab, router.RefreshFrom(feed, tab)
	o.Log, o.Registry = tel.Log, tel.Registry
	o.Guard = guard.New(tel.Registry)
	tenants, cells := s.connections()
	o.Guard.Bound(tenants)
	files := h1.NewFiles(cells)
	o.Chain.Others = o.Guard
	var policy *guard.File
	if s.PolicyFile != "" {
		if policy, err = guard.NewFile(s.PolicyFile, o.Guard, tel.Log); err != nil {
			return err
		}
	}
	proofs, err := openCerts(s, tel)
	if err != nil {
		return err
	}
	proofs.tell(&o)
	rt, newServer, closeCells := newRouter(o, s, files, proofs.trust())
	defer closeCells()

	entries, err := listen(ctx, socks, s, rt, newServer, proofs, o, files)
	if err != nil {
		return err
	}
	adminLn, err := socks.Listen(ctx, s.AdminAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for operators: %w", err), closeAll(entries))
	}
	admin := run.NewAdmin()
	rt.Admin(admin)

	// What requests need outlives ctx; it ends when they have.
	background := run.NewGroup(context.WithoutCancel(ctx))
	background.Go("follow directory", func(ctx context.Context) error { return rt.Follow(ctx, feed, s.ID) })
	background.Go("follow keys", func(ctx context.Context) error { return keyFile.Follow(ctx, feed) })
	keeper := &keeper{parent: background.Context(), jobs: func(g *run.Group) {
		g.Go("save table", disk.Run)
		disk = table.NewDisk(s.TableFile, s.BaseDomain, tab, tel.Log) // for the next time: others may have written
		g.Go("save keys", keyFile.Run)
	}}
	keeper.TakeBack()
	background.Go("fetch issuers' keys", func(ctx context.Context) error { return o.Guard.FetchKeys(ctx, tel.Log) })
	background.Go("look at requests", o.Guard.Watch)
	if policy != nil {
		hangUp := make(chan os.Signal, 1)
		signal.Notify(hangUp, syscall.SIGHUP)
		defer signal.Stop(hangUp)
		background.Go("follow policy", func(ctx context.Context) error { return policy.Run(ctx, hangUp) })
	}
	proofs.run(background)
	background.Go("admin", func(ctx context.Context) error {
		return run.Serve(ctx, run.Reserve(adminLn, adminSpare), tel.Admin(admin), s.StopGrace)
	})
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(background.Context(), stop)
	if err = socks.Begin(ctx, admin.Failing); err == nil {
		background.Go("hand over", func(ctx context.Context) error {
			err := socks.Run(ctx, keeper)
			switch {
			case err != nil: // no reason to serve nobody
				tel.Log.ErrorContext(ctx, "no router can take over from this one any more", "error", err)
			case s.HandoverSocket != "":
				keeper.LetGo() // another one may start, and write the files
			}
			return nil
		})
		background.Go("wait for the end", func(context.Context) error {
			defer stop()
			defer socks.Leave()
			(&farewell{s, rt, entries, admin, o.Guard, tel.Log}).wait(ctx, serving, socks.Taken())
			return nil
		})
		admin.SetReady(true)
		tel.Log.InfoContext(ctx, "router serves", "addr", addresses(entries), "admin", adminLn.Addr().String())
		err = serveAll(serving, entries, s.StopGrace)
		afterGoodbyes(o.Guard)
	}
	stop()
	rt.Close()
	background.Stop()
	err = errors.Join(err, background.Wait())
	keeper.LetGo()
	return err
}

// newRouter makes the router with the engine that is asked for, what makes servers
// of that engine, and what closes the connections to cells.
func newRouter(o router.Options, s settings, files *h1.Files, trust func(directory.CellID) *tls.Config) (*router.Router, func() run.Server, func()) {
	limits := pool.Limits{Requests: s.CellConcurrency, Least: s.CellLeast, Timeout: s.CellTimeout, Streams: s.CellStreams, Files: files, Trust: trust}
	if s.Engine != "std" {
		relay := router.NewRelay(limits)
		o.Forwarder = relay
		rt := router.New(o)
		engine := rt.NewEngine
		if s.loops() {
			engine = rt.NewLoops
		}
		return rt, func() run.Server { return engine() }, relay.Close
	}
	proxy := router.NewProxy(limits, o.Log)
	o.Forwarder = proxy
	rt := router.New(o)
	return rt, func() run.Server { return rt.NewServer() }, proxy.Close
}
