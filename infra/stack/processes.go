package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/local"
)

// processGrace is how long a process of ours may take to finish its requests;
// longer than the grace that it gives itself.
const processGrace = 25 * time.Second

// appRole is the login role of a cell's processes, which they make themselves.
const appRole = "cellway"

// moverRole is the login role of a cell's transfer endpoint.
const moverRole = "cellway_mover"

// startOurs starts one of our binaries. Its settings are env and those of
// Options.Env that have its prefix, and of Options.EnvOf; admin is the address of its admin listener.
func (s *Stack) startOurs(ctx context.Context, name, path, prefix, admin string, env ...string) error {
	env = slices.Concat(baseEnv(), env, withPrefix(s.opts.Env, prefix), s.opts.EnvOf[name])
	c := &child{
		command: local.Command{Name: name, Path: path, Env: env, Log: s.logFile(name), OnOrphan: syscall.SIGKILL},
		ready:   func(ctx context.Context) error { return Ready(ctx, "http://"+admin) },
		stop:    syscall.SIGTERM,
		grace:   processGrace,
	}
	s.add(c)
	return s.launch(ctx, c)
}

// Ready asks the admin listener at the base URL whether its process is ready.
func Ready(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/readyz", nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := probe.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // for the message only
	return fmt.Errorf("readyz: status %d: %s", resp.StatusCode, strings.TrimSpace(string(body)))
}

// probe asks on a connection of its own each time.
var probe = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// addresses are a listener for the work and one for operators.
func (s *Stack) addresses(name string) (listen, admin string, err error) {
	port, err := s.plan.port(name)
	if err != nil {
		return "", "", err
	}
	adminPort, err := s.plan.port(name + "-admin")
	if err != nil {
		return "", "", err
	}
	return loopback(port), loopback(adminPort), nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// startDirectory starts the directory and its database.
func (s *Stack) startDirectory(ctx context.Context) error {
	db, err := s.startPostgres(ctx, "directory-postgres", "directory")
	if err != nil {
		return err
	}
	listen, admin, err := s.addresses("directory")
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.state.Directory = Directory{URL: "http://" + listen, Admin: "http://" + admin, DatabaseURL: db}
	s.mu.Unlock()
	routed, err := s.opts.route("directory", db)
	if err != nil {
		return err
	}
	return s.startOurs(ctx, "directory", s.programs.directory, "DIRECTORY_", admin,
		"DIRECTORY_DATABASE_URL="+routed, "DIRECTORY_LISTEN_ADDR="+listen, "DIRECTORY_ADMIN_ADDR="+admin,
		"DIRECTORY_TOKEN_KEYS="+s.plan.TokenKeys)
}

// startRouter starts router r, whose addresses are known.
func (s *Stack) startRouter(ctx context.Context, r Router) error {
	dir := filepath.Join(s.opts.Dir, r.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	admin := hostOf(r.Admin)
	secure, err := s.trust.router(r)
	if err != nil {
		return err
	}
	return s.startOurs(ctx, r.ID, s.programs.router, "ROUTER_", admin, append(secure,
		"ROUTER_ID="+r.ID, "ROUTER_ADMIN_ADDR="+admin,
		"ROUTER_DIRECTORY_URL="+s.State().Directory.URL, "ROUTER_DIRECTORY_TOKEN="+r.Token,
		"ROUTER_TOKEN_KEYS="+s.State().TokenKeys, "ROUTER_ASSERTION_KEYS="+s.plan.AssertionKeys,
		"ROUTER_TABLE_FILE="+filepath.Join(dir, "table"))...)
}

// startMover starts mover m, whose address is known.
func (s *Stack) startMover(ctx context.Context, m Mover) error {
	token, err := s.token(ctx, "mover", m.ID)
	if err != nil {
		return err
	}
	keys, err := s.derive(ctx, s.plan.TokenKeys, "movers")
	if err != nil {
		return err
	}
	admin := hostOf(m.Admin)
	secure, err := s.trust.identity(certs.RoleMover, m.ID, "MOVER_")
	if err != nil {
		return err
	}
	return s.startOurs(ctx, m.ID, s.programs.mover, "MOVER_", admin, append(secure,
		"MOVER_ID="+m.ID, "MOVER_ADMIN_ADDR="+admin,
		"MOVER_DIRECTORY_URL="+s.State().Directory.URL, "MOVER_DIRECTORY_TOKEN="+token, "MOVER_TOKEN_KEYS="+keys)...)
}

// hostOf is the address in a base URL.
func hostOf(base string) string { return base[strings.LastIndexByte(base, '/')+1:] }

// startCellServers starts a cell's Postgres and Redis and says where all of the
// cell is going to be.
func (s *Stack) startCellServers(ctx context.Context, id string) (Cell, error) {
	cell := Cell{ID: id}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		cell.DatabaseURL, err = s.startPostgres(gctx, id+"-postgres", "cell")
		return err
	})
	g.Go(func() (err error) {
		cell.RedisURL, err = s.startRedis(gctx, id+"-redis")
		return err
	})
	if err := g.Wait(); err != nil {
		return cell, err
	}
	listen, admin, err := s.addresses(id)
	if err != nil {
		return cell, err
	}
	workerAdmin, err := s.plan.port(id + "-worker-admin")
	if err != nil {
		return cell, err
	}
	app, err := url.Parse(cell.DatabaseURL)
	if err != nil {
		return cell, fmt.Errorf("database url of %s: %w", id, err)
	}
	app.User = url.UserPassword(appRole, s.plan.password(id+"-"+appRole))
	cell.AppDatabaseURL = app.String()
	app.User = url.UserPassword(moverRole, s.plan.password(id+"-"+moverRole))
	cell.MoverDatabaseURL = app.String()
	cell.URL, cell.Admin, cell.WorkerAdmin = s.trust.scheme()+listen, "http://"+admin, "http://"+loopback(workerAdmin)
	return cell, nil
}

// startCell starts a cell's API and then, on the schema that it has made, its worker.
func (s *Stack) startCell(ctx context.Context, cell Cell) error {
	token, err := s.token(ctx, "cell", cell.ID)
	if err != nil {
		return err
	}
	moverURL, err := s.opts.route(cell.ID, cell.MoverDatabaseURL)
	if err != nil {
		return err
	}
	adminURL, err := s.opts.route(cell.ID+"-link", cell.Admin)
	if err != nil {
		return err
	}
	tokens, err1 := s.derive(ctx, s.plan.TokenKeys, "tenants", "cell/"+cell.ID)
	assertions, err2 := s.derive(ctx, s.plan.AssertionKeys, "cell/"+cell.ID)
	control, err3 := s.derive(ctx, s.plan.TokenKeys, "movers", "public")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	common := []string{
		"CELL_ID=" + cell.ID, "CELL_OWNER_DATABASE_URL=" + cell.DatabaseURL, "CELL_DATABASE_URL=" + cell.AppDatabaseURL,
		"CELL_MOVER_DATABASE_URL=" + moverURL, "CELL_REDIS_URL=" + cell.RedisURL, "CELL_DIRECTORY_URL=" + s.State().Directory.URL, "CELL_DIRECTORY_TOKEN=" + token,
		"CELL_TOKEN_KEYS=" + tokens, "CELL_ASSERTION_KEYS=" + assertions, "CELL_CONTROL_KEYS=" + control,
	}
	admin, workerAdmin := hostOf(cell.Admin), hostOf(cell.WorkerAdmin)
	secure, err := s.trust.identity(certs.RoleCell, cell.ID, "CELL_")
	if err != nil {
		return err
	}
	api := append(append(secure, "CELL_ROLE=api", "CELL_LISTEN_ADDR="+hostOf(cell.URL), "CELL_ADMIN_ADDR="+admin, "CELL_ADMIN_ADDRESS="+adminURL), common...)
	if err := s.startOurs(ctx, cell.ID, s.programs.cell, "CELL_", admin, api...); err != nil {
		return err
	}
	worker := append([]string{"CELL_ROLE=worker", "CELL_ADMIN_ADDR=" + workerAdmin}, common...)
	return s.startOurs(ctx, cell.ID+"-worker", s.programs.cell, "CELL_", workerAdmin, worker...)
}
