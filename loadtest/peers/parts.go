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
	"time"
)

// A part is something that the router does beside relaying, as its profile names it:
// functions, with all that they call.
type part struct {
	kind string
	of   []string
	goal string
}

// parts are held to the router's functions by a test.
var parts = []part{
	{"P16 look-up", []string{`router/identify\.`, `router/table\.`, `router\.\(\*Router\)\.decide`}, "<= 5"},
	{"P16 assertion", []string{`router/sign\.\(\*Assertions\)`, `directory/token\.\(\*Signer\)`}, "<= 5"},
	{"P17 metrics", []string{`router\.\(\*metrics\)`, `infra/telemetry\.\(\*Histogram\)`, `client_golang/prometheus\.`}, "<= 5"},
	{"P17 limits", []string{`router\.\(\*direct\)\.admit`, `router/guard\.`, `router/pool\.`}, "<= 5"},
	{"log and span", []string{`infra/telemetry\.\(\*Line\)`, `infra/telemetry\.\(\*sink\)`, `infra/telemetry\.Append`, `log/slog\.`, `go\.opentelemetry\.io/`}, ""},
}

const (
	// profiled is how many loads long the profile is: a core that works has 100 samples a second,
	// and a part of one percent of them one.
	profiled = 10
	// enough is how many samples a profile must have. The kernel takes them with its tick, which a core that works in
	// bursts and sleeps between mostly has not, so that one of three times had 31 where 900 were expected.
	enough = 400
)

func partsFigure() *measure {
	m := &measure{
		Figure: describe("P16-P17-parts", "what look-up, assertion, limits and metrics cost beside the bare relay",
			"a CPU profile of our router under ten loads of P1, half a minute, at half as many requests again; of all samples with the part in their stack, the share of those with none of the parts. A part that no sample shows, and a profile of under 400 samples, is not measured."),
		unit: "%", rounds: 3, self: true, goals: map[string]string{},
	}
	for _, p := range parts {
		m.goals[p.kind] = p.goal
	}
	m.run = func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
		file := filepath.Join(l.dir, "profile-"+c.name)
		fetched := make(chan error, 1)
		seconds := max(1, int(profiled*l.o.For.Seconds()))
		go func() {
			b, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.admin, seconds))
			fetched <- errors.Join(err, os.WriteFile(file, b, 0o600))
		}()
		rate, err := l.usualRate(ctx, c)
		if err == nil {
			_, err = l.offer(ctx, c, loadSpec{Path: kilobyte, Rate: rate + rate/2, For: time.Duration(seconds) * time.Second})
		}
		if err := errors.Join(err, <-fetched); err != nil {
			return nil, err
		}
		got, err := shares(ctx, file, parts, enough)
		for _, p := range parts {
			if _, seen := got[p.kind]; err == nil && !seen {
				m.fail(join(c.name, p.kind), "not seen: no sample shows it")
			}
		}
		return got, err
	}
	return m
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
