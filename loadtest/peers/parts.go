package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/local"
)

// A part is something that the router does beside relaying, as its profile names it:
// functions, with all that they call.
type part struct {
	kind string
	of   []string
	goal string
	few  bool // while few tenants are active
}

// parts are held to the router's functions by a test.
var parts = []part{
	{"P16 look-up", []string{`router/identify\.`, `router/table\.`, `router\.\(\*Router\)\.decide`}, "<= 5", false},
	{"P16 assertion", []string{`router/sign\.\(\*Assertions\)`, `directory/token\.\(\*Signer\)`}, "<= 5", false},
	{"P17 metrics", []string{`router\.\(\*metrics\)`, `infra/telemetry\.\(\*Histogram\)`, `client_golang/prometheus\.`}, "<= 5", true},
	{"P17 limits", []string{`router\.\(\*direct\)\.admit`, `router/guard\.`, `router/pool\.`}, "<= 5", true},
	{"log and span", []string{`infra/telemetry\.\(\*Line\)`, `infra/telemetry\.\(\*sink\)`, `infra/telemetry\.Append`, `log/slog\.`, `go\.opentelemetry\.io/`}, "", false},
}

const (
	// profiled is how many loads long the profile is: a core that works has 100 samples a second,
	// and a part of one percent of them one.
	profiled = 10
	// few is how many tenants are active where the design says how many: what is kept of a hundred thousand is in no cache.
	few = 10_000
	// enough is how many samples a profile must have.
	enough = 400
)

func partsFigure() *measure {
	m := &measure{
		Figure: describe("P16-P17-parts", "what look-up, assertion, limits and metrics cost beside the bare relay",
			"a CPU profile of our router under ten loads of P1, half a minute, at half as many requests again, its core kept awake, once of 100,000 tenants in turn and once of 10,000, of which limits and metrics are told; of all samples with the part in their stack, the share of those with none of the parts. A part that no sample shows, and a profile of under 400 samples, is not measured."),
		unit: "%", rounds: 3, self: true, goals: map[string]string{},
	}
	for _, p := range parts {
		m.goals[p.kind] = p.goal
	}
	m.run = func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
		asleep, err := l.awake()
		if err != nil {
			return nil, err
		}
		defer asleep()
		got := map[string]float64{}
		for _, fewer := range []bool{false, true} {
			file, tenants := filepath.Join(l.dir, "profile-"+c.name), l.o.Tenants
			if fewer {
				tenants = min(few, tenants)
			}
			if err := l.profile(ctx, c, file, tenants); err != nil {
				return nil, err
			}
			part, err := shares(ctx, file, parts, enough)
			if err != nil {
				return nil, err
			}
			for _, p := range parts {
				share, seen := part[p.kind]
				switch {
				case p.few != fewer:
				case seen:
					got[p.kind] = share
				default:
					m.fail(join(c.name, p.kind), "not seen: no sample shows it")
				}
			}
		}
		return got, nil
	}
	return m
}

// profile profiles the contender while so many tenants ask in turn.
func (l *lab) profile(ctx context.Context, c *contender, file string, tenants int) error {
	fetched := make(chan error, 1)
	seconds := max(1, int(profiled*l.o.For.Seconds()))
	go func() {
		b, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.admin, seconds))
		fetched <- errors.Join(err, os.WriteFile(file, b, 0o600))
	}()
	rate, err := l.usualRate(ctx, c)
	if err == nil {
		_, err = l.offer(ctx, c, loadSpec{Path: kilobyte, Rate: rate + rate/2, For: time.Duration(seconds) * time.Second, Tenants: tenants})
	}
	return errors.Join(err, <-fetched)
}

// awake keeps the proxy's core from sleeping, by a loop that runs when nothing else would, until asleep is called. The
// kernel samples a process with its tick, which a core that sleeps between bursts mostly has not: one of three profiles
// had 31 samples where 900 were expected.
func (l *lab) awake() (asleep func(), err error) {
	path, args, err := pinned(l.proxyCore, "chrt", "--idle", "0", "sh", "-c", "while :; do :; done")
	if err != nil {
		return nil, err
	}
	loop, err := local.Start(local.Command{Name: "awake", Path: path, Args: args, Env: os.Environ(), Log: filepath.Join(l.dir, "awake.log"), OnOrphan: syscall.SIGKILL})
	if err != nil {
		return nil, err
	}
	return loop.Kill, nil
}

// shares has the profile, which must have so many samples, read once for each part.
func shares(ctx context.Context, file string, parts []part, least int) (map[string]float64, error) {
	got, sum := map[string]float64{}, 0.0
	for _, p := range parts {
		// All functions, for what it sums up are those that it shows; by the number of samples.
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-sample_index=0", "-nodecount=1000000", "-nodefraction=0", "-focus="+strings.Join(p.of, "|"), file) //nolint:gosec // constants
		out, err := cmd.CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("no samples")) {
			return nil, fmt.Errorf("read profile: %w: %s", err, bytes.TrimSpace(out))
		}
		share, all := parseFocused(out)
		if share > 0 && all < least {
			return nil, fmt.Errorf("the profile has %d samples: of fewer than %d a share is chance", all, least)
		}
		if share > 0 {
			got[p.kind] = share
			sum += share
		}
	}
	for kind := range got {
		got[kind] *= 100 / max(1, 100-sum)
	}
	return got, nil
}

var focused = regexp.MustCompile(`accounting for [^,]+, +([0-9.]+)% of ([0-9]+) total`)

// parseFocused is the share, in percent, of the samples that a focus leaves, and how many all are; 0 of none.
func parseFocused(out []byte) (share float64, all int) {
	m := focused.FindSubmatch(out)
	if m == nil {
		return 0, 0
	}
	share, _ = strconv.ParseFloat(string(m[1]), 64) // digits and a point
	all, _ = strconv.Atoi(string(m[2]))
	return share, all
}
