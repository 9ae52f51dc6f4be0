package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/infra/local"
)

// start brings everything up: what does not need each other at the same time.
func (s *Stack) start(ctx context.Context) error {
	var err error
	if s.plan, err = openPlan(s.opts.Dir); err != nil {
		return err
	}
	if s.opts.TLS {
		if s.trust, err = openTrust(ctx, s); err != nil {
			return err
		}
	}
	if err := s.lay(ctx); err != nil {
		return err
	}
	if err := keepOldLogs(s.opts.Dir); err != nil {
		return err
	}
	operator, err := s.token(ctx, "operator", "operator")
	if err != nil {
		return err
	}
	tokens, err := s.derive(ctx, s.plan.TokenKeys, "tenants")
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.state.OperatorToken, s.state.TokenKeys = operator, tokens
	s.mu.Unlock()
	if err := s.startAll(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(); err != nil {
		return err
	}
	return s.plan.save()
}

// lay writes down who owns the stack and where its routers and movers are.
func (s *Stack) lay(ctx context.Context) error {
	me, err := local.Identify(os.Getpid())
	if err != nil {
		return fmt.Errorf("identify this process: %w", err)
	}
	st := State{Dir: s.opts.Dir, Owner: me, AssertionKeys: s.plan.AssertionKeys, Authority: s.trust.file()}
	if s.opts.Port != 0 {
		if err := s.plan.exactPort("router-1", s.opts.Port); err != nil {
			return err
		}
	}
	for i := range s.opts.Routers {
		r, err := s.layRouter(ctx, i+1)
		if err != nil {
			return err
		}
		st.Routers = append(st.Routers, r)
	}
	for n := range s.opts.Movers {
		id := fmt.Sprintf("mover-%d", n+1)
		port, err := s.plan.port(id + "-admin")
		if err != nil {
			return err
		}
		st.Movers = append(st.Movers, Mover{ID: id, Admin: "http://" + loopback(port)})
	}
	st.Endpoint = st.Routers[0].URL
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = st
	return s.save()
}

func (s *Stack) layRouter(ctx context.Context, n int) (Router, error) {
	id := fmt.Sprintf("router-%d", n)
	token, err := s.token(ctx, "router", id)
	if err != nil {
		return Router{}, err
	}
	if n == 1 && s.opts.Port != 0 {
		admin, err := s.plan.port(id + "-admin")
		if err != nil {
			return Router{}, err
		}
		return s.securely(Router{ID: id, URL: "http://" + loopback(s.opts.Port), Admin: "http://" + loopback(admin), Token: token})
	}
	listen, admin, err := s.addresses(id)
	if err != nil {
		return Router{}, err
	}
	return s.securely(Router{ID: id, URL: "http://" + listen, Admin: "http://" + admin, Token: token})
}

// keepOldLogs moves the logs of the last run aside, one generation.
func keepOldLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	if err != nil {
		return fmt.Errorf("find old logs: %w", err)
	}
	for _, path := range logs {
		if err := os.Rename(path, path+".old"); err != nil {
			return fmt.Errorf("keep old logs: %w", err)
		}
	}
	return nil
}

// startAll starts all servers at once, our own processes as soon as those are up
// that they need: the directory for routers and cells, its servers for a cell.
func (s *Stack) startAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	directory := make(chan struct{}) // closed when it is ready
	g.Go(func() error {
		err := s.startDirectory(ctx)
		if err == nil {
			close(directory)
		}
		return err
	})
	for _, r := range s.State().Routers {
		g.Go(func() error {
			if !within(ctx, directory) {
				return ctx.Err()
			}
			return s.startRouter(ctx, r)
		})
	}
	for _, m := range s.State().Movers {
		g.Go(func() error {
			if !within(ctx, directory) {
				return ctx.Err()
			}
			return s.startMover(ctx, m)
		})
	}
	cells := make([]Cell, s.opts.Cells)
	for i := range cells {
		g.Go(func() (err error) {
			cells[i], err = s.startCellServers(ctx, fmt.Sprintf("c%d", i+1))
			if err != nil {
				return err
			}
			if !within(ctx, directory) {
				return ctx.Err()
			}
			return s.startCell(ctx, cells[i])
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Cells = cells
	return nil
}

// within waits for done and reports whether it came before the end of ctx.
func within(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// AddCell starts one more cell, which registers itself, and returns when it is ready.
func (s *Stack) AddCell(ctx context.Context) (Cell, error) {
	id := s.nextCell()
	cell, err := s.startCellServers(ctx, id)
	if err != nil {
		return cell, err
	}
	if err := s.startCell(ctx, cell); err != nil {
		return cell, err
	}
	s.mu.Lock()
	s.state.Cells = append(s.state.Cells, cell)
	err = s.save()
	s.mu.Unlock()
	if err != nil {
		return cell, err
	}
	return cell, s.plan.save()
}

// nextCell takes the first number that no cell of this run has.
func (s *Stack) nextCell() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.state.Cells) + 1; ; n++ {
		id := fmt.Sprintf("c%d", n)
		if s.children[id] == nil && s.children[id+"-postgres"] == nil {
			return id
		}
	}
}
