package peers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/loadtest"
)

func syscallsFigure() *measure {
	return &measure{
		Figure: describe("P4-syscalls", "system calls of the proxy for one request",
			"strace -c -f on all its processes while our generator keeps 64 connections, then one, busy. strace slows the proxy, so more waits for it at once than without."),
		unit: "calls", rounds: 3, goals: map[string]string{"64 connections": "<= 5", "1 connection": "<= 6.5"},
		ratios: []ratio{{"64 connections", "nginx", ""}, {"64 connections", "haproxy", ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			got := map[string]float64{}
			for kind, conns := range map[string]int{"64 connections": l.o.Conns, "1 connection": 1} {
				calls, err := l.strace(ctx, c, conns)
				if err != nil {
					return nil, err
				}
				got[kind] = calls
			}
			return got, nil
		},
	}
}

// strace counts a proxy's system calls during a load and gives those of one request.
func (l *lab) strace(ctx context.Context, c *contender, conns int) (float64, error) {
	path, err := installed("strace")
	if err != nil {
		return 0, notApplicable{err.Error()}
	}
	table := filepath.Join(l.dir, "strace-"+c.name)
	args := []string{"-c", "-f", "-o", table}
	for _, pid := range loadtest.Family(c.process.PID) {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tracer := local.Command{Name: "strace", Path: path, Args: args, Env: os.Environ(), Log: table + ".log", OnOrphan: syscall.SIGINT}
	p, err := local.StartReady(ready, tracer, func(context.Context) error {
		if !strings.Contains(local.Tail(table+".log", 40), "attached") {
			return errors.New("not attached")
		}
		return nil
	})
	if err != nil {
		return 0, notApplicable{fmt.Sprintf("strace may not trace it: %v", err)}
	}
	o, err := l.offer(ctx, c, loadSpec{Path: kilobyte, Conns: conns})
	err = errors.Join(err, p.Stop(ctx, syscall.SIGINT, 10*time.Second))
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(table)
	if err != nil {
		return 0, fmt.Errorf("read strace's table: %w", err)
	}
	total, err := parseStrace(string(b))
	return total / float64(o.Done), err
}

// parseStrace is the number of calls in strace's table.
func parseStrace(table string) (float64, error) {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 4 && f[len(f)-1] == "total" {
			n, err := strconv.ParseFloat(f[3], 64)
			if err != nil {
				break
			}
			return n, nil
		}
	}
	return 0, errors.New("strace's table has no total")
}

func allocationsFigure() *measure {
	return &measure{
		Figure: describe("P5-allocations", "heap of our router for one request",
			"by how much the Go runtime's counters at /metrics grow while the load of P1 runs, connections made and all at its size, and how much while nothing is asked for as long; the difference for each request, to a tenth. (TestUsualRequestAllocatesNothing counts exactly.)"),
		unit: "", rounds: 1, self: true, goals: map[string]string{"allocations per request": "= 0", "GC cycles per minute": "<= 2"},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			usual, err := l.atRate(ctx, c, loadSpec{Path: kilobyte})
			if err != nil {
				return nil, err
			}
			still, err := l.growth(ctx, c)
			if err != nil {
				return nil, err
			}
			loaded := make(chan error, 1)
			spec := loadSpec{Path: kilobyte, Rate: int(float64(usual.Done) / usual.Took.Seconds()), For: 2 * l.o.For}
			go func() {
				_, err := l.offer(ctx, c, spec)
				loaded <- err
			}()
			loadtest.Pause(ctx, l.o.For/2)
			busy, err := l.growth(ctx, c)
			if err = errors.Join(err, <-loaded); err != nil {
				return nil, err
			}
			perRequest := func(name string) float64 { // what the timers allocate is not the same each time
				return max(0, math.Round((busy[name]-still[name])/(float64(spec.Rate)*l.o.For.Seconds())*10)/10)
			}
			return map[string]float64{
				"allocations per request": perRequest("go_memstats_mallocs_total"),
				"bytes per request":       perRequest("go_memstats_alloc_bytes_total"),
				"GC cycles per minute":    busy["go_gc_duration_seconds_count"] / l.o.For.Minutes(),
			}, nil
		},
	}
}

// growth is by how much a contender's counters grow in the time of one load.
func (l *lab) growth(ctx context.Context, c *contender) (map[string]float64, error) {
	before, err := scrape(ctx, c.admin)
	if err != nil {
		return nil, err
	}
	loadtest.Pause(ctx, l.o.For)
	after, err := scrape(ctx, c.admin)
	if err != nil {
		return nil, err
	}
	for name, v := range before {
		after[name] -= v
	}
	return after, nil
}

// scrape is the metrics without labels at an admin listener.
func scrape(ctx context.Context, addr string) (map[string]float64, error) {
	b, err := fetch(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return nil, err
	}
	got := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if name, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(name, "#") {
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				got[name] = n
			}
		}
	}
	return got, nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func idleFigure() *measure {
	return &measure{
		Figure: describe("P8-idle", "memory of the proxy for an idle keep-alive connection",
			"connections that each had one request answered; proportional set size of all processes of a proxy that has just started, after less before. The kernel's own is not in it. "+
				"Measured "+settles.String()+" after the last answer: our goroutines give connections up within 2 s."),
		unit: "KB", rounds: 3, goals: map[string]string{"": "<= 4"}, ratios: []ratio{{"", "nginx", ""}, {"", "haproxy", ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			return l.idle(ctx, c, "plain")
		},
	}
}

func idleTLSFigure() *measure {
	return &measure{
		Figure: describe("P9-idle-tls", "memory of the proxy for an idle TLS connection", "as P8, over TLS 1.3."),
		unit:   "KB", rounds: 3, goals: map[string]string{"": "<= 12"}, ratios: []ratio{{"", "nginx", ""}, {"", "haproxy", ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			if c.tls == "" {
				return nil, notApplicable{"no TLS"}
			}
			return l.idle(ctx, c, "tls")
		},
	}
}

// settles is how long connections have been idle when their memory is measured.
const settles = 4 * time.Second

// idle holds connections and gives the memory for each of a proxy that has just started: one that had more of them has
// room left, and would show nothing.
func (l *lab) idle(ctx context.Context, c *contender, kind string) (map[string]float64, error) {
	if err := l.again(ctx, c); err != nil {
		return nil, err
	}
	addr := c.plain
	if kind == "tls" {
		addr = c.tls
	}
	before, err := loadtest.MemoryOf(c.process.PID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.o.self, Part, "hold", addr, strconv.Itoa(l.o.Idle), kind) //nolint:gosec // this program
	release, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	said, readErr := bufio.NewReader(out).ReadString('\n')
	if readErr == nil {
		loadtest.Pause(ctx, settles)
	}
	after, err := loadtest.MemoryOf(c.process.PID)
	err = errors.Join(err, release.Close(), cmd.Wait())
	if err != nil || said != "held\n" {
		return nil, errors.Join(fmt.Errorf("hold %d connections: said %q", l.o.Idle, said), readErr, err)
	}
	return map[string]float64{"": float64(after-before) / 1024 / float64(l.o.Idle)}, nil
}
