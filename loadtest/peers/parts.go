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

// profiled is how many loads long the profile is: a core has 100 samples a second, and
// a part of one percent of them one.
const profiled = 10

func partsFigure() *measure {
	m := &measure{
		Figure: describe("P16-P17-parts", "what look-up, assertion, limits and metrics cost beside the bare relay",
			"a CPU profile of our router under ten loads of P1, half a minute; of all samples with the part in their stack, the share of those with none of the parts. A part that no sample shows is not measured."),
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
		_, err := l.atRate(ctx, c, loadSpec{Path: kilobyte, For: time.Duration(seconds) * time.Second})
		if err := errors.Join(err, <-fetched); err != nil {
			return nil, err
		}
		got, err := shares(ctx, file, parts)
		for _, p := range parts {
			if _, seen := got[p.kind]; err == nil && !seen {
				m.fail(join(c.name, p.kind), "not seen: no sample shows it")
			}
		}
		return got, err
	}
	return m
}

// shares has the profile read once for each part.
func shares(ctx context.Context, file string, parts []part) (map[string]float64, error) {
	got, sum := map[string]float64{}, 0.0
	for _, p := range parts {
		// All functions, for what it sums up are those that it shows.
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=1000000", "-nodefraction=0", "-focus="+strings.Join(p.of, "|"), file) //nolint:gosec // constants
		out, err := cmd.CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("no samples")) {
			return nil, fmt.Errorf("read profile: %w: %s", err, bytes.TrimSpace(out))
		}
		if share := parseFocused(out); share > 0 {
			got[p.kind] = share
			sum += share
		}
	}
	for kind := range got {
		got[kind] *= 100 / max(1, 100-sum)
	}
	return got, nil
}

var focused = regexp.MustCompile(`accounting for [^,]+, +([0-9.]+)% of`)

// parseFocused is the share, in percent, of the samples that a focus leaves; 0 of none.
func parseFocused(out []byte) float64 {
	m := focused.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64) // digits and a point
	return v
}
