package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/cell/worker"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/consul"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// A process is what the roles share: opened before anything runs, closed last.
type process struct {
	cfg     Config
	tel     *telemetry.Telemetry
	store   *store.Store
	cache   *cell.Cache
	keep    *keep.Keep
	redis   *redis.Client // of the relay and the consumers, which wait for it
	db      *cell.DB
	pace    *transfer.Pace
	meter   *cell.Meter
	purger  *transfer.Purger // nil where no role moves tenants
	modules []cell.Module
}

// start runs the cell until ctx ends or a part of it fails.
func start(ctx context.Context, cfg Config, log io.Writer) error {
	tel, err := telemetry.Start(ctx, "cell", cfg.instance(), log)
	if err != nil {
		return err
	}
	defer tel.Close()
	redis.SetLogger(redisLog{tel.Log})
	p, err := open(ctx, cfg, tel)
	if err != nil {
		return err
	}
	defer p.close()
	return p.run(ctx)
}

// open brings the database up to date and connects.
func open(ctx context.Context, cfg Config, tel *telemetry.Telemetry) (*process, error) {
	if cfg.OwnerDatabaseURL != "" {
		var schemas []store.Schema
		for _, m := range modules(nil, nil) {
			schemas = append(schemas, m)
		}
		if err := store.Prepare(ctx, string(cfg.OwnerDatabaseURL), string(cfg.DatabaseURL), schemas...); err != nil {
			return nil, err
		}
		if cfg.MoverDatabaseURL != "" {
			if err := store.PrepareMover(ctx, string(cfg.OwnerDatabaseURL), string(cfg.MoverDatabaseURL)); err != nil {
				return nil, err
			}
		}
	}
	cache, err := cell.OpenCache(string(cfg.RedisURL), tel.Log)
	if err != nil {
		return nil, err
	}
	kept, err := keep.Open(string(cfg.RedisURL), keep.Options{Log: tel.Log})
	if err != nil {
		return nil, err
	}
	rdb, err := openRedis(string(cfg.RedisURL))
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, string(cfg.DatabaseURL), store.Options{Cell: cfg.ID, Pool: cfg.DatabasePool})
	if err != nil {
		return nil, err
	}
	db := cell.NewDB(s)
	pace := transfer.NewPace(transfer.PaceOptions{Bytes: cfg.MoveBytes, Rows: cfg.MoveRows, Latency: cfg.MoveLatency})
	return &process{
		cfg: cfg, tel: tel, store: s, cache: cache, keep: kept, redis: rdb, db: db, pace: pace, meter: cell.NewMeter(),
		modules: modules(db, cache),
	}, nil
}

// modules are what is plugged into the cell: the one list of them.
func modules(db *cell.DB, cache *cell.Cache) []cell.Module {
	return []cell.Module{cell.NewAPI(db), projects.New(db, cache)}
}

func openRedis(url string) (*redis.Client, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("parse redis url: not a redis:// URL") // the text may hold a password
	}
	opt.ContextTimeoutEnabled = true
	rdb := redis.NewClient(opt)
	if err := keep.Trace(rdb); err != nil {
		return nil, err
	}
	return rdb, nil
}

// close ends the connections.
func (p *process) close() {
	p.store.Close()
	err := errors.Join(p.redis.Close(), p.cache.Close(), p.keep.Close())
	if err != nil {
		p.tel.Log.Warn("redis was not closed", "error", err)
	}
}

// run serves until ctx ends. The order of stopping: not ready; a while for balancers; stop listening;
// requests under way finish; then the loops, so that what those requests wrote
// still has a relay, and the admin listener, which shows the drain until it is
// over. start closes the pools after that and sends what telemetry holds back.
func (p *process) run(ctx context.Context) error {
	admin := run.NewAdmin()
	admin.Check("database", p.store.Ping)
	adminLn, err := net.Listen("tcp", p.cfg.AdminAddr)
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	front, stopFront := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFront()
	loops := run.NewGroup(context.WithoutCancel(ctx)) // they outlive ctx until the front has stopped
	loops.Go("admin", func(ctx context.Context) error {
		return run.Serve(ctx, adminLn, p.tel.Admin(admin), time.Second)
	})
	defer context.AfterFunc(loops.Context(), stopFront)() // one that fails takes the process down
	defer context.AfterFunc(front, func() { admin.SetReady(false) })()
	defer context.AfterFunc(ctx, func() {
		admin.SetReady(false)
		if p.cfg.servesAPI() { // nobody balances a worker
			run.Pause(front, p.cfg.StopDelay)
		}
		stopFront()
	})()

	err = p.serve(front, loops, admin)
	loops.Stop()
	return errors.Join(err, loops.Wait())
}

// serve starts what the role asks for and returns when the front has stopped.
func (p *process) serve(front context.Context, loops *run.Group, admin *run.Admin) error {
	if p.cfg.works() {
		if err := p.startWork(loops); err != nil {
			return err
		}
	}
	if !p.cfg.servesAPI() {
		admin.SetReady(true)
		<-front.Done()
		return nil
	}
	api, err := p.api()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", p.cfg.ListenAddr)
	if err != nil {
		return fmt.Errorf("listen for tenants: %w", err)
	}
	loops.Go("arrivals and streams", p.db.Run)
	defer context.AfterFunc(front, p.db.StopStreams)()
	loops.Go("pace", p.pace.Run)
	p.pace.Register(p.tel.Registry)
	id, err := p.openIdentity(loops)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	moves, closeTransfer, err := p.transfer(front, admin, id)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer closeTransfer()
	if err := p.reconcile(loops, admin); err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := p.deletions(front, loops); err != nil {
		return errors.Join(err, ln.Close())
	}
	admin.SetReady(true)
	if err := p.announce(front, loops); err != nil {
		return errors.Join(err, ln.Close())
	}
	return p.serveAPI(front, ln, api, moves, id)
}

func (p *process) api() (http.Handler, error) {
	return cell.New(cell.Options{
		Cell: p.cfg.ID, Modules: p.modules, DB: p.db, Cache: p.cache,
		AssertionKeys: p.cfg.assertions, TokenKeys: p.cfg.tokens, RatePerMinute: p.cfg.RatePerMinute,
		Log: p.tel.Log, Registry: p.tel.Registry, Observe: p.pace.Observe, Meter: p.meter,
	})
}

// startWork starts the relay, the consumers, the jobs and the sweep.
func (p *process) startWork(loops *run.Group) error {
	var consumers []cell.Consumer
	var kinds []cell.JobKind
	for _, m := range p.modules {
		consumers = append(consumers, m.Consumers()...)
		kinds = append(kinds, m.Jobs()...)
	}
	w, err := worker.New(p.store, p.redis, consumers, worker.Options{Log: p.tel.Log, Registry: p.tel.Registry})
	if err != nil {
		return err
	}
	runner, err := jobs.NewRunner(p.store, kinds, jobs.Options{Log: p.tel.Log, Registry: p.tel.Registry})
	if err != nil {
		return err
	}
	relay := outbox.NewRelay(p.store, p.redis, outbox.RelayOptions{Log: p.tel.Log, Registry: p.tel.Registry})
	loops.Go("relay", relay.Run)
	loops.Go("worker", w.Run)
	loops.Go("jobs", runner.Run)
	loops.Go("sweep", cell.NewSweeper(p.store, p.tel.Log).Run)
	loops.Go("compact", cell.NewCompactor(p.store, p.tel.Log).Run)
	return nil
}

// announce tells the directory, and Consul where there is one, that the cell is
// here, for as long as it takes requests. Neither is needed to serve.
func (p *process) announce(front context.Context, loops *run.Group) error {
	incarnation, err := p.store.Incarnation(front)
	if err != nil {
		return err
	}
	self := p.cfg.cell(incarnation)
	dir, err := client.New(client.Options{URL: p.cfg.DirectoryURL, Token: string(p.cfg.DirectoryToken), Attempts: 1})
	if err != nil {
		return err
	}
	loops.Go("register", func(context.Context) error { return cell.Announce(front, dir, self, p.tel.Log) })
	loops.Go("load", func(context.Context) error { return p.meter.Run(front, dir, self, p.tel.Log) })
	if p.cfg.ConsulAddr == "" {
		return nil
	}
	agent, err := consul.New(p.cfg.ConsulAddr)
	if err != nil {
		return err
	}
	loops.Go("consul", func(context.Context) error { return cell.Join(front, agent.Membership(), self, p.tel.Log) })
	return nil
}
