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

// serve runs the router until ctx ends or another process has taken over.
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
	p := &parts{settings: s, tel: tel, socks: socks}
	if err := p.open(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}

// parts are what the process is made of.
type parts struct {
	settings
	tel    *telemetry.Telemetry
	socks  *handover.Sockets
	feed   *client.Client
	made   router.Options
	disk   *table.Disk // of made.Table
	keys   *keyring.File
	policy *guard.File // nil: there is none
	proofs proofs
	files  *h1.Files // bounds the connections to cells
}

// open reads what the router is told by settings and files, and what it knew when it last ran.
func (p *parts) open(ctx context.Context) (err error) {
	if p.made, err = p.options(); err != nil {
		return err
	}
	if p.feed, err = client.New(client.Options{URL: p.DirectoryURL, Token: string(p.DirectoryToken)}); err != nil {
		return err
	}
	o := &p.made
	o.Log, o.Registry = p.tel.Log, p.tel.Registry
	o.Table = table.New()
	o.Table.SetGuard(table.Guard{Share: p.TableMaxTaken, AtMost: 100})
	o.Refresh = router.RefreshFrom(p.feed, o.Table)
	p.disk = p.newDisk()
	if err := p.disk.Load(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Log.ErrorContext(ctx, "no good table on disk; waiting for the directory", "error", err)
	}
	o.Chain.Ring = &token.Ring{}
	p.keys = keyring.New(p.TableFile+".keys", o.Chain.Ring, o.Log)
	p.keys.Load(ctx)
	o.Registry.MustRegister(p.keys.Metrics()...)
	o.Guard = guard.New(o.Registry)
	o.Chain.Others = o.Guard
	tenants, cells := p.connections()
	o.Guard.Bound(tenants)
	p.files = h1.NewFiles(cells)
	if p.PolicyFile != "" {
		if p.policy, err = guard.NewFile(p.PolicyFile, o.Guard, o.Log); err != nil {
			return err
		}
	}
	if p.proofs, err = openCerts(p.settings, p.tel); err != nil {
		return err
	}
	p.proofs.tell(o)
	return nil
}

func (p *parts) newDisk() *table.Disk {
	return table.NewDisk(p.TableFile, p.BaseDomain, p.made.Table, p.made.Log)
}

// run serves. The order of stopping: not ready, so that balancers look elsewhere; stop listening
// and finish the requests, which still need the table; then stop following, save
// the table, and close connections. serve sends the last spans after that.
func (p *parts) run(ctx context.Context) error {
	rt, newServer, closeCells := newRouter(p.made, p.settings, p.files, p.proofs.trust())
	defer closeCells()
	entries, err := listen(ctx, p.socks, p.settings, rt, newServer, p.proofs, p.made, p.files)
	if err != nil {
		return err
	}
	adminLn, err := p.socks.Listen(ctx, p.AdminAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for operators: %w", err), closeAll(entries))
	}
	admin := run.NewAdmin()
	rt.Admin(admin)

	// What requests need outlives ctx; it ends when they have.
	background := run.NewGroup(context.WithoutCancel(ctx))
	keeper := p.keepUp(background, rt)
	background.Go("admin", func(ctx context.Context) error {
		return run.Serve(ctx, run.Reserve(adminLn, adminSpare), p.tel.Admin(admin), p.StopGrace)
	})
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(background.Context(), stop)
	if err = p.socks.Begin(ctx, admin.Failing); err == nil {
		background.Go("hand over", func(ctx context.Context) error { p.handOver(ctx, keeper); return nil })
		background.Go("wait for the end", func(context.Context) error {
			defer stop()
			defer p.socks.Leave()
			(&farewell{p.settings, rt, entries, admin, p.made.Guard, p.tel.Log}).wait(ctx, serving, p.socks.Taken())
			return nil
		})
		admin.SetReady(true)
		p.tel.Log.InfoContext(ctx, "router serves", "addr", addresses(entries), "admin", adminLn.Addr().String())
		err = serveAll(serving, entries, p.StopGrace)
		afterGoodbyes(p.made.Guard)
	}
	stop()
	rt.Close()
	background.Stop()
	err = errors.Join(err, background.Wait())
	keeper.LetGo()
	return err
}

// keepUp starts what keeps the router's knowledge fresh. The keeper has what writes its files.
func (p *parts) keepUp(background *run.Group, rt *router.Router) *keeper {
	background.Go("follow directory", func(ctx context.Context) error { return rt.Follow(ctx, p.feed, p.ID) })
	background.Go("follow keys", func(ctx context.Context) error { return p.keys.Follow(ctx, p.feed) })
	background.Go("fetch issuers' keys", func(ctx context.Context) error { return p.made.Guard.FetchKeys(ctx, p.tel.Log) })
	background.Go("look at requests", p.made.Guard.Watch)
	if p.policy != nil {
		hangUp := make(chan os.Signal, 1)
		signal.Notify(hangUp, syscall.SIGHUP)
		background.Go("follow policy", func(ctx context.Context) error {
			defer signal.Stop(hangUp)
			return p.policy.Run(ctx, hangUp)
		})
	}
	p.proofs.run(background)
	k := &keeper{parent: background.Context(), jobs: func(g *run.Group) {
		g.Go("save table", p.disk.Run)
		p.disk = p.newDisk() // for the next time: others may have written
		g.Go("save keys", p.keys.Run)
	}}
	k.TakeBack()
	return k
}

// handOver lets other routers take over, until ctx ends or one has.
func (p *parts) handOver(ctx context.Context, k *keeper) {
	err := p.socks.Run(ctx, k)
	switch {
	case err != nil: // no reason to serve nobody
		p.tel.Log.ErrorContext(ctx, "no router can take over from this one any more", "error", err)
	case p.HandoverSocket != "":
		k.LetGo() // another one may start, and write the files
	}
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
