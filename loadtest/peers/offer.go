package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// offered is one load on a contender, and what it cost.
type offered struct {
	loadResult
	cost time.Duration // processor time of the proxy
}

// perRequest is the proxy's processor time of one request, in microseconds.
func (o offered) perRequest() float64 { return float64(o.cost) / float64(max(1, o.Done)) / 1e3 }

// A bottleneck is the error of a run that measured origin or load.
type bottleneck struct{ who string }

// Error says who it was.
func (b bottleneck) Error() string { return b.who }

func isBottleneck(err error) bool {
	_, is := errors.AsType[bottleneck](err)
	return is
}

const maxShare = 0.8

// offer runs our generator against a contender. What it brought is there also beside
// a bottleneck: a lower bound of what the contender carries.
func (l *lab) offer(ctx context.Context, c *contender, spec loadSpec) (offered, error) {
	spec.Addr = c.plain
	if spec.Tenants == 0 {
		spec.Tenants = l.o.Tenants
	}
	if spec.For == 0 {
		spec.For = l.o.For
	}
	if spec.Conns == 0 {
		spec.Conns = l.o.Conns
	}
	if spec.Method == "" {
		spec.Method = "GET"
	}
	return l.load(ctx, c, "load", spec)
}

// load runs a part of the benchmark that puts load on a contender.
func (l *lab) load(ctx context.Context, c *contender, part string, spec loadSpec) (offered, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return offered{}, err
	}
	var o offered
	out, refused := l.against(ctx, c, &o.cost, l.o.self, Part, part, string(text))
	if refused != nil && !isBottleneck(refused) {
		return o, refused
	}
	if err := json.Unmarshal(out, &o.loadResult); err != nil {
		return o, fmt.Errorf("read the load's result: %w", err)
	}
	if o.Done == 0 {
		return o, fmt.Errorf("%s answered none of %d requests", c.name, o.Failed)
	}
	return o, refused
}

// against runs a program that puts load on a contender and gives what it prints.
// cost becomes the proxy's processor time meanwhile.
func (l *lab) against(ctx context.Context, c *contender, cost *time.Duration, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*l.o.For+time.Minute)
	defer cancel()
	path, args, err := pinned(l.loadCore, program, args...)
	if err != nil {
		return nil, err
	}
	before, originBefore, err := l.spent(c)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Env = &stderr, append(os.Environ(), "GOMAXPROCS=1")
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		return nil, fmt.Errorf("%s against %s: %w: %s", filepath.Base(program), c.name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	after, originAfter, err := l.spent(c)
	if err != nil {
		return nil, err
	}
	*cost = after - before
	load := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return out, l.fair(took, load, originAfter-originBefore)
}

// spent is the processor time of a contender and of the origin so far.
func (l *lab) spent(c *contender) (proxy, origin time.Duration, err error) {
	if proxy, err = loadtest.ProcessorTime(c.process.PID); err == nil {
		origin, err = loadtest.ProcessorTime(l.origin.PID)
	}
	return proxy, origin, err
}

// fair refuses a run whose load or origin had no room left on its core. While
// pinned they share one.
func (l *lab) fair(took, load, origin time.Duration) error {
	a, b := load.Seconds()/took.Seconds(), origin.Seconds()/took.Seconds()
	if l.loadCore != "" && a+b > maxShare || max(a, b) > maxShare {
		return bottleneck{fmt.Sprintf("the load used %.0f %% and the origin %.0f %% of a core", 100*a, 100*b)}
	}
	return nil
}
