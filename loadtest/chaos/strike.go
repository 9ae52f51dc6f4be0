package chaos

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// strike waits for the fault's moment, does it, and makes it good. n numbers the
// fault in its round. The error says that the stack could not be repaired.
func (r *run) strike(ctx context.Context, n int, f Fault, e *errand) error {
	var m directory.Move
	if f.Phase != anyMoment {
		m = r.at(ctx, e, f.Phase)
	}
	loadtest.Pause(ctx, f.Delay)
	if now, err := r.newest(ctx, e.tenant.ID); err == nil {
		m = now
	}
	phase := m.Phase
	if !e.isOn(m) {
		phase = anyMoment // between two moves
	}
	if m.ID == "" { // no move yet: any cell is as good as another
		m.Source, m.Target = r.cellAt(0), r.cellAt(1)
	}
	name := r.process(f, m)
	var struck bool
	var err error
	switch f.Verb {
	case Kill:
		struck, err = r.kill(ctx, name, f.Down)
	case KillBackend:
		struck = r.killBackend(ctx, name) == nil
	case Suspend:
		struck = r.suspend(ctx, name, m)
	case Flood:
		struck = r.flood(ctx, m.Source, n) == nil
	default:
		struck = r.breakStatement(ctx, name, f)
	}
	r.tally(f.Blow, phase, struck)
	return err
}

// process is the name of the process that the fault is aimed at.
func (r *run) process(f Fault, m directory.Move) string {
	suffix := strings.TrimPrefix(strings.TrimPrefix(string(f.Part), "source"), "target")
	switch {
	case f.Part == Mover && m.Holder != "":
		return m.Holder
	case f.Part == Mover:
		return fmt.Sprintf("mover-%d", 1+f.Nth%movers)
	case f.Part == Router:
		return fmt.Sprintf("router-%d", 1+f.Nth%routers)
	case strings.HasPrefix(string(f.Part), "source"):
		return string(m.Source) + suffix
	case strings.HasPrefix(string(f.Part), "target"):
		return string(m.Target) + suffix
	}
	return string(f.Part)
}

// kill kills a process, leaves it dead for a while, and starts it again.
func (r *run) kill(ctx context.Context, name string, down time.Duration) (bool, error) {
	before := time.Now()
	if r.stack.Kill(name) != nil {
		return false, nil // another fault was quicker
	}
	r.died(name, before, time.Now())
	loadtest.Pause(ctx, down)
	return true, r.restart(ctx, name)
}

// database is the pool for the database whose server is called name.
func (r *run) database(name string) *pgxpool.Pool {
	id := strings.TrimSuffix(name, "-postgres")
	if id == "directory" {
		return r.record
	}
	return r.cells[directory.CellID(id)]
}

// killBackend kills a server process that serves one of ours, one that is at work
// rather than one that waits. The server then ends all others and recovers. It has begun to
// when killBackend returns: until it notices, it answers as if nothing had been.
func (r *run) killBackend(ctx context.Context, name string) error {
	const pick = `
		SELECT pid FROM pg_stat_activity
		 WHERE backend_type = 'client backend' AND application_name <> $1
		 ORDER BY state = 'idle', random()
		 LIMIT 1`
	asking, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := r.database(name).Acquire(asking)
	if err != nil {
		return err
	}
	defer conn.Release()
	var pid int
	if err := conn.QueryRow(asking, pick, ownName).Scan(&pid); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	noticing, cancel := context.WithTimeout(ctx, healBound)
	defer cancel()
	return loadtest.Until(noticing, "Postgres to notice a backend's end", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		return conn.Ping(ctx) != nil, nil
	})
}

// leasePatience is longer than a lease lasts.
const leasePatience = 5 * time.Second

// suspend stops a mover until another one has its move, or long enough for that,
// and lets it go on then, in the belief that the move is still its own. It reports whether
// the mover has lost a lease by it.
func (r *run) suspend(ctx context.Context, name string, m directory.Move) bool {
	if r.stack.Signal(name, syscall.SIGSTOP) != nil {
		return false
	}
	// What happens to the run meanwhile, it must not stay so. It may have been killed.
	defer func() { _ = r.stack.Signal(name, syscall.SIGCONT) }()
	ctx, cancel := context.WithTimeout(ctx, leasePatience)
	defer cancel()
	if m.Holder != name {
		loadtest.Pause(ctx, 300*time.Millisecond)
		return false // it had nothing to lose
	}
	for had := m.Lease; ; {
		var holder string
		var lease int64
		err := r.record.QueryRow(ctx, `SELECT holder, lease FROM directory.moves WHERE id = $1`, m.ID).Scan(&holder, &lease)
		switch {
		case err != nil: // the directory's database is dead just now
		case holder == name:
			had = lease
		case lease == had:
			return false // it let the move go in the moment in which it was stopped
		default:
			r.tallyStolen()
			return true
		}
		if !loadtest.Pause(ctx, 5*time.Millisecond) {
			return false // nobody took the move over
		}
	}
}

// statementPatience is how long a fault waits for its statement.
const statementPatience = 4 * time.Second

// breakStatement arms the proxy before a database, or a transfer endpoint, and waits for it to
// strike, and until a slow network is quick again.
func (r *run) breakStatement(ctx context.Context, name string, f Fault) bool {
	proxy := r.proxies.before(strings.TrimSuffix(name, "-postgres"))
	fired := proxy.Arm(pgproxy.Fault{Kind: pgproxy.Kind(f.Verb), Nth: f.Nth, Commits: f.Commits, Stall: f.Down, Pace: f.Pace})
	select {
	case <-fired:
		if f.Verb == Verb(pgproxy.Slow) {
			loadtest.Pause(ctx, f.Down)
		}
		return true
	case <-time.After(statementPatience):
	case <-ctx.Done():
	}
	return false // nobody says anything there just now
}
