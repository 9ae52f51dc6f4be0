package blast

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/loadtest"
)

const (
	cells      = 8
	baseDomain = "cellway.localhost"
	stopGrace  = 20 * time.Second
)

// A lab is a router, its cells, each a process, and the directory that tells the
// router of them. Each cell has one tenant, of its own name.
type lab struct {
	o           Options
	dir         string
	feed        *loadtest.Feed
	router      *local.Process
	addr, admin string // the router's
	cells       [cells]*local.Process
	at, told    [cells]string // the cells' addresses
}

// victim is the cell that faults happen to.
const victim = cells - 1

func nameOf(n int) string { return "c" + strconv.Itoa(n+1) }

func newLab(ctx context.Context, o Options) (l *lab, err error) {
	l = &lab{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close(ctx))
		}
	}()
	if l.dir, err = os.MkdirTemp("", "cellway-blast-"); err != nil {
		return l, err
	}
	for n := range cells {
		if l.at[n], err = freeAddr(); err != nil {
			return l, err
		}
		if l.told[n], err = freeAddr(); err != nil {
			return l, err
		}
		if err := l.startCell(ctx, n); err != nil {
			return l, err
		}
	}
	if l.feed, err = loadtest.NewFeed(l.table()); err != nil {
		return l, err
	}
	return l, l.startRouter(ctx)
}

func freeAddr() (string, error) {
	port, err := local.FreePort()
	return "127.0.0.1:" + strconv.Itoa(port), err
}

// table is what the directory tells the router.
func (l *lab) table() (all []directory.CellRoute, routes []directory.Route) {
	for n := range cells {
		id := directory.CellID(nameOf(n))
		all = append(all, directory.CellRoute{ID: id, Address: "http://" + l.at[n], State: directory.Ready})
		routes = append(routes, directory.Route{
			Slug: nameOf(n), Placement: directory.Placement{Tenant: directory.TenantID(n + 1), Cell: id, Epoch: 1, State: directory.Active},
		})
	}
	return all, routes
}

// startRouter starts the router as it comes: what is not needed to find
// the lab is its default, or the caller's environment.
func (l *lab) startRouter(ctx context.Context) (err error) {
	if l.addr, err = freeAddr(); err != nil {
		return err
	}
	admin, err := freeAddr()
	if err != nil {
		return err
	}
	l.admin = "http://" + admin
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "ROUTER_") {
			env = append(env, v)
		}
	}
	env = append(env, "ROUTER_LISTEN_ADDR="+l.addr, "ROUTER_ADMIN_ADDR="+admin, "ROUTER_DIRECTORY_URL="+l.feed.URL,
		"ROUTER_TABLE_FILE="+filepath.Join(l.dir, "table"), "ROUTER_AUTH=optional", "ROUTER_BASE_DOMAIN="+baseDomain,
		"ROUTER_ASSERTION_KEYS=blast:"+base64.StdEncoding.EncodeToString(key))
	l.router, err = l.start(ctx, local.Command{Name: "router", Path: filepath.Join(l.o.BinDir, "router"), Env: env}, func(ctx context.Context) error {
		return answers(ctx, http.MethodGet, "http://"+l.addr+"/t/"+nameOf(victim)+"/x")
	})
	return err
}

func (l *lab) startCell(ctx context.Context, n int) (err error) {
	l.cells[n], err = l.start(ctx, local.Command{
		Name: nameOf(n), Path: l.o.self, Args: []string{Part, nameOf(n), l.at[n], l.told[n]}, Env: []string{"PATH=" + os.Getenv("PATH")},
	}, func(ctx context.Context) error { return answers(ctx, http.MethodGet, "http://"+l.at[n]+"/x") })
	return err
}

func (l *lab) start(ctx context.Context, c local.Command, ready func(context.Context) error) (*local.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.Dir, c.Log, c.OnOrphan = l.dir, filepath.Join(l.dir, c.Name+".log"), syscall.SIGKILL
	return local.StartReady(ctx, c, ready)
}

// answers asks once, over a connection of its own.
func answers(ctx context.Context, method, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// strike makes the victim fail.
func (l *lab) strike(ctx context.Context, fault string) error {
	switch fault {
	case none:
		return nil
	case "killed":
		l.cells[victim].Kill()
		return nil
	case "hung":
		return l.cells[victim].Signal(syscall.SIGSTOP)
	}
	return l.tell(ctx, fault)
}

// heal makes it well again.
func (l *lab) heal(ctx context.Context, fault string) error {
	switch fault {
	case "killed":
		return l.startCell(ctx, victim)
	case "hung":
		return l.cells[victim].Signal(syscall.SIGCONT)
	}
	return l.tell(ctx, well)
}

// tell sets the victim's mode.
func (l *lab) tell(ctx context.Context, mode string) error {
	return answers(ctx, http.MethodPost, "http://"+l.told[victim]+"/mode/"+mode)
}

// attempts is how often the router has sent something to the victim.
func (l *lab) attempts(ctx context.Context) (n float64, err error) {
	m, err := loadtest.Scrape(ctx, l.admin)
	if err != nil {
		return 0, err
	}
	for _, s := range m["router_cell_attempts_total"].GetMetric() {
		for _, label := range s.GetLabel() {
			if label.GetName() == "cell" && label.GetValue() == nameOf(victim) {
				n += s.GetCounter().GetValue()
			}
		}
	}
	return n, nil
}

// memory is the router's resident memory, MiB.
func (l *lab) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.router.PID))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmRSS: %g kB", &kb); err == nil {
			return kb / 1024, nil
		}
	}
	return 0, errors.New("/proc says nothing of the router's memory")
}

// close stops everything, whatever its state.
func (l *lab) close(ctx context.Context) (err error) {
	ctx = context.WithoutCancel(ctx) // what was started must end
	if l.router != nil {
		err = l.router.Stop(ctx, syscall.SIGTERM, stopGrace)
	}
	for _, p := range l.cells {
		if p != nil {
			p.Kill()
		}
	}
	if l.feed != nil {
		err = errors.Join(err, l.feed.Close())
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}
