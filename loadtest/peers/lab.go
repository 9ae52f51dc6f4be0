package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/loadtest"
)

// A lab is what the figures are measured in.
type lab struct {
	o          Options
	dir        string
	cert       certificate
	feed       *loadtest.Feed
	originAddr string
	origin     *local.Process
	proxyCore  string // "" while nothing is pinned
	loadCore   string
	contenders []*contender
	ours       string             // the contender that the goals are of
	most       map[string]float64 // requests a second that a contender can, in this phase
	skipped    []string
}

func newLab(ctx context.Context, o Options) (*lab, error) {
	l := &lab{o: o}
	dir, err := os.MkdirTemp("", "cellway-peers-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	l.dir = dir
	if l.cert, err = newCertificate(dir); err == nil {
		err = l.find(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return l, nil
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.o.Progress, "bench-peers: "+format+"\n", args...)
}

// skip says once what is not measured and why.
func (l *lab) skip(format string, args ...any) {
	why := "not measured: " + fmt.Sprintf(format, args...)
	if !slices.Contains(l.skipped, why) {
		l.skipped = append(l.skipped, why)
		l.say("%s", why)
	}
}

func (l *lab) router() string { return filepath.Join(l.o.BinDir, "router") }

// phase is "" or what tells the directories of the second phase from the first's.
func (l *lab) phase() string {
	if l.proxyCore == "" {
		return "-unpinned"
	}
	return ""
}

// workers is how many cores a proxy has that must be told.
func (l *lab) workers() int {
	if l.proxyCore == "" {
		return 2
	}
	return 1
}

// find finds every contender that is on this machine or can be built.
func (l *lab) find(ctx context.Context) error {
	ours := engines(ctx, l.router())
	if len(ours) == 0 {
		return fmt.Errorf("no router that works at %s; run make build", l.router())
	}
	l.ours = "cellway-" + ours[0]
	for _, e := range ours {
		l.take(cellway(e))
	}
	here := func(_ context.Context, name string) (string, error) { return installed(name) }
	for _, p := range []struct {
		name string
		find func(ctx context.Context, name string) (path string, err error)
		make func(path string) *contender
	}{{"nginx", here, nginx}, {"haproxy", here, haproxy}, {"caddy", l.built, caddy}, {"traefik", l.built, traefik}} {
		if !l.wanted(p.name) {
			continue
		}
		path, err := p.find(ctx, p.name)
		if err != nil {
			l.skip("%s: %v", p.name, err)
			continue
		}
		l.take(p.make(path))
	}
	l.take(reverseProxy())
	l.take(floor())
	return nil
}

func (l *lab) wanted(name string) bool {
	return len(l.o.Peers) == 0 || slices.Contains(l.o.Peers, name)
}

func (l *lab) take(c *contender) {
	if l.wanted(c.name) {
		l.contenders = append(l.contenders, c)
	}
}

// begin starts origin, feed and contenders for a phase. A contender that does not
// start is left out of the rest.
func (l *lab) begin(ctx context.Context, pin bool) error {
	l.proxyCore, l.loadCore, l.most = "", "", map[string]float64{}
	if pin {
		l.proxyCore, l.loadCore = core0, core1
	}
	port, err := local.FreePort()
	if err != nil {
		return err
	}
	l.originAddr = "127.0.0.1:" + strconv.Itoa(port)
	path, args, err := pinned(l.loadCore, l.o.self, Part, "origin", l.originAddr)
	if err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	origin := local.Command{
		Name: "origin", Path: path, Args: args, Env: append(os.Environ(), "GOMAXPROCS=1"),
		Log: filepath.Join(l.dir, "origin.log"), OnOrphan: syscall.SIGKILL,
	}
	if l.origin, err = local.StartReady(ready, origin, func(ctx context.Context) error {
		return (&contender{name: "origin"}).answers(ctx, l.originAddr, false)
	}); err != nil {
		return err
	}
	if l.feed, err = loadtest.NewFeed(l.table()); err != nil {
		return err
	}
	var running []*contender
	for _, c := range l.contenders {
		if err := c.start(ctx, l); err != nil {
			if ctx.Err() != nil {
				return err
			}
			l.skip("%s does not start: %v", c.name, err)
			continue
		}
		running = append(running, c)
	}
	if l.contenders = running; len(running) == 0 {
		return errors.New("no proxy starts")
	}
	return nil
}

// again starts a contender anew. One that does not start is left out of the rest.
func (l *lab) again(ctx context.Context, c *contender) error {
	err := errors.Join(c.stop(ctx), c.start(ctx, l))
	if err != nil {
		l.contenders = slices.DeleteFunc(slices.Clone(l.contenders), func(other *contender) bool { return other == c })
		l.skip("%s does not start again: %v", c.name, err)
	}
	return err
}

// table is what the directory tells the router: every tenant is in one cell, the origin.
func (l *lab) table() ([]directory.CellRoute, []directory.Route) {
	var routes []directory.Route
	for n := range l.o.Tenants {
		slug, _, _ := strings.Cut(host(n), ".")
		routes = append(routes, directory.Route{
			Slug: slug, Placement: directory.Placement{Tenant: directory.TenantID(n + 1), Cell: "c1", Epoch: 1, State: directory.Active},
		})
	}
	return []directory.CellRoute{{ID: "c1", Address: "http://" + l.originAddr, State: directory.Ready}}, routes
}

// end stops what begin started. ctx may have ended: the processes still have to.
func (l *lab) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var err error
	for _, c := range l.contenders {
		err = errors.Join(err, c.stop(ctx))
	}
	if l.feed != nil {
		err = errors.Join(err, l.feed.Close())
		l.feed = nil
	}
	if l.origin != nil {
		l.origin.Kill()
		l.origin = nil
	}
	return err
}

func (l *lab) close(ctx context.Context) error { return errors.Join(l.end(ctx), os.RemoveAll(l.dir)) }

// byName is a contender that runs, or nil.
func (l *lab) byName(name string) *contender {
	for _, c := range l.contenders {
		if c.name == name {
			return c
		}
	}
	return nil
}
