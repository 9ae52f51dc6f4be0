package blast

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// herdName is the line of the clients that come back all at once to a cell that is
// cold.
const herdName = "herd"

const (
	herdPatience  = time.Minute // of a client
	herdAddresses = 16          // that the clients come from: one has 28,000 ports
	herdMemory    = 4.0         // KiB of the router's for each client
	ownFiles      = 2000        // that load and router have open besides the herd
)

// files raises the limit of open files, which the router inherits, so that want
// connections fit, and returns how many do.
func files(want int) (int, error) {
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	need := uint64(2*want + ownFiles) // the router keeps files for cells and more
	raised := syscall.Rlimit{Cur: max(have.Cur, need), Max: max(have.Max, need)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return want, nil
	}
	return max(0, min(want, (int(min(have.Max, need))-ownFiles)/2)), nil
}

// herd kills the victim for a window and lets it come back together with n clients,
// each of which connects, asks, and asks again a little later until it is answered.
// They stay connected until all are.
func (m *measurement) herd(ctx context.Context, n int) (*Line, error) {
	line := &Line{Fault: herdName, Clients: n}
	base, err := m.memory()
	if err != nil {
		return nil, err
	}
	m.start()
	if err := m.settle(ctx, m.o.Window); err != nil {
		return nil, err
	}
	line.count(m.others(), false)
	if err := m.cool(ctx); err != nil {
		return nil, err
	}
	tried, err := m.attempts(ctx)
	if err != nil {
		return nil, err
	}
	line.count(m.others(), false)
	began, tries := time.Now(), &atomic.Int64{}
	answered, last, leave := m.come(ctx, n, tries)
	defer leave()
	line.count(m.others(), true)
	grown, err := m.memory()
	if err != nil {
		return nil, err
	}
	after, err := m.attempts(ctx)
	if err != nil {
		return nil, err
	}
	line.MemoryGrowth, line.Answered = grown-base, answered
	if answered > 0 {
		line.Took = new(ms(last.Sub(began)))
	}
	line.Tries, line.Attempts = float64(tries.Load())/float64(max(n, 1)), (after-tried)/float64(max(tries.Load(), 1))
	line.judge()
	return line, ctx.Err()
}

// cool kills the victim for a window in which it is asked, so that its circuit is
// open when it comes back.
func (m *measurement) cool(ctx context.Context) error {
	one := m.toVictim()
	asking, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { one.run(asking) })
	defer running.Wait()
	defer stop()
	if err := m.strike(ctx, "killed"); err != nil {
		return err
	}
	if err := m.settle(ctx, m.o.Window); err != nil {
		return err
	}
	return m.heal(ctx, "killed")
}

// come lets n clients come at once and returns how many were answered, and when the
// last one was, once all are or have lost their patience; leave ends their connections.
func (m *measurement) come(ctx context.Context, n int, tries *atomic.Int64) (answered int, last time.Time, leave func()) {
	ctx, cancel := context.WithTimeout(ctx, herdPatience)
	defer cancel()
	clients := make([]*client, n)
	request := []byte("GET /x HTTP/1.1\r\nHost: " + nameOf(victim) + "." + baseDomain + "\r\n\r\n")
	var got, lastAt atomic.Int64
	var all sync.WaitGroup
	for i := range clients {
		c := &client{router: m.addr, source: net.IPv4(127, 0, 1, byte(1+i%herdAddresses))}
		clients[i] = c
		all.Go(func() {
			stop := context.AfterFunc(ctx, c.abort)
			defer stop()
			for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, 8*time.Second) {
				tries.Add(1)
				if status, body, _, err := c.ask(ctx, request); err == nil && status == http.StatusOK && body == nameOf(victim) {
					got.Add(1)
					lastAt.Store(time.Now().UnixNano())
					return
				}
				_ = m.settle(ctx, rand.N(wait)) // ctx ends the loop
			}
		})
	}
	all.Wait()
	return int(got.Load()), time.Unix(0, lastAt.Load()), func() {
		for _, c := range clients {
			c.close()
		}
	}
}
