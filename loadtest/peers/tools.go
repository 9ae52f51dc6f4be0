package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func asBottleneck(err error, b *bottleneck) bool { return errors.As(err, b) }

// wrk keeps 64 connections busy, closed loop: for the most that a proxy carries.
func (l *lab) wrk(ctx context.Context, c *contender, url string) (offered, error) {
	path, err := installed("wrk")
	if err != nil {
		return offered{}, notApplicable{err.Error()}
	}
	seconds := max(1, int(l.o.For.Seconds()))
	args := []string{"-t1", "-c" + strconv.Itoa(l.o.Conns), "-d" + strconv.Itoa(seconds) + "s", "-H", "Host: " + host(1), url}
	var o offered
	out, err := l.against(ctx, c, &o.cost, path, args...)
	if err != nil {
		return o, err
	}
	o.loadResult, err = parseWrk(out)
	return o, err
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(ms|s|m)`)
	wrkErrors   = regexp.MustCompile(`(Non-2xx or 3xx responses|Socket errors): (.*)`)
	h2Finished  = regexp.MustCompile(`finished in ([0-9.]+)(us|ms|s|m)`)
	h2Succeeded = regexp.MustCompile(`(\d+) succeeded, (\d+) failed`)
	h2Status    = regexp.MustCompile(`status codes: (\d+) 2xx`)
	focused     = regexp.MustCompile(`accounting for [^,]+, +([0-9.]+)% of`)
)

func parseWrk(out []byte) (loadResult, error) {
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		return loadResult{}, fmt.Errorf("wrk says %q", out)
	}
	if bad := wrkErrors.FindSubmatch(out); bad != nil && !regexp.MustCompile(`^connect 0, read \d+, write 0, timeout 0`).Match(bad[2]) {
		return loadResult{}, fmt.Errorf("wrk had errors: %s", bytes.TrimSpace(bad[0]))
	}
	n, _ := strconv.Atoi(string(m[1])) // digits only
	took, err := time.ParseDuration(string(m[2]) + string(m[3]))
	if err == nil && (n == 0 || took <= 0) {
		err = errors.New("wrk had no answer")
	}
	return loadResult{Done: n, Took: took}, err
}

// h2load sends requests over TLS at half the usual rate. It connects as the tenant's
// clients do: a proxy may choose the certificate by the name.
func (l *lab) h2load(ctx context.Context, c *contender, protocol string, conns int, more ...string) (offered, error) {
	if c.tls == "" {
		return offered{}, notApplicable{"no TLS"}
	}
	path, err := installed("h2load")
	if err != nil {
		return offered{}, notApplicable{err.Error()}
	}
	rate, err := l.halfRate(ctx, c)
	if err != nil {
		return offered{}, err
	}
	_, port, err := net.SplitHostPort(c.tls)
	if err != nil {
		return offered{}, err
	}
	args := []string{
		"-t1", "-c" + strconv.Itoa(conns), "-n" + strconv.Itoa(max(conns, int(float64(rate)*l.o.For.Seconds()))),
		fmt.Sprintf("--rps=%.3f", float64(rate)/float64(conns)), "--connect-to=" + c.tls, "-H", ":authority: " + host(1),
	}
	var o offered
	out, err := l.against(ctx, c, &o.cost, path, append(append(args, more...), "https://"+net.JoinHostPort(host(1), port)+kilobyte)...)
	if err != nil {
		return o, err
	}
	o.loadResult, err = parseH2load(out, protocol)
	return o, err
}

// parseH2load also looks that what was measured is what was meant: a server that does
// not speak it is asked over HTTP/1.1, and over an older TLS, without a word.
func parseH2load(out []byte, protocol string) (loadResult, error) {
	took, done, status := h2Finished.FindSubmatch(out), h2Succeeded.FindSubmatch(out), h2Status.FindSubmatch(out)
	if took == nil || done == nil || status == nil {
		return loadResult{}, fmt.Errorf("h2load says %q", out)
	}
	for _, want := range []string{"TLS Protocol: TLSv1.3\n", "Application protocol: " + protocol + "\n"} {
		if !bytes.Contains(out, []byte(want)) {
			return loadResult{}, fmt.Errorf("h2load does not say %q", strings.TrimSpace(want))
		}
	}
	d, err := time.ParseDuration(string(took[1]) + string(took[2]))
	n, _ := strconv.Atoi(string(status[1])) // digits only
	failed, _ := strconv.Atoi(string(done[2]))
	if err == nil && (n == 0 || failed > 0) {
		err = fmt.Errorf("h2load: %d answers of 2xx, %d failed", n, failed)
	}
	return loadResult{Done: n, Failed: failed, Took: d}, err
}

// parts are what the router does beside relaying, as its profile names it.
var parts = []struct{ kind, focus, goal string }{
	{"P16 look-up", `router/(identify|table)\.|router\.\(\*Router\)\.decide`, "<= 5"},
	{"P16 assertion", `router\.\(\*assertions\)|directory/token\.`, "<= 5"},
	{"P17 metrics", `router\.\(\*metrics\)|client_golang`, "<= 5"},
	{"P17 limits", `router/guard|[lL]imit|\.acquire|\.release`, "<= 5"},
	{"log and span", `log/slog|go\.opentelemetry\.io|infra/telemetry\.(Log|log)`, ""},
}

func partsFigure() *measure {
	m := &measure{
		Figure: describe("P16-P17-parts", "what look-up, assertion, limits and metrics cost beside the bare relay",
			"a CPU profile of our router under the load of P1; of all samples with the part in their stack, the share of those with none of the parts. A part that no sample shows costs little, or has another name by now: it is not measured."),
		unit: "%", once: true, self: true, goals: map[string]string{},
	}
	for _, p := range parts {
		m.goals[p.kind] = p.goal
	}
	m.run = func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
		file := filepath.Join(l.dir, "profile-"+c.name)
		fetched := make(chan error, 1)
		seconds := max(1, int(l.o.For.Seconds()))
		go func() {
			b, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.admin, seconds))
			fetched <- errors.Join(err, os.WriteFile(file, b, 0o600))
		}()
		_, err := l.atRate(ctx, c, loadSpec{Path: kilobyte, For: time.Duration(seconds) * time.Second})
		if err := errors.Join(err, <-fetched); err != nil {
			return nil, err
		}
		return shares(ctx, file)
	}
	return m
}

// shares has the profile read once for each part.
func shares(ctx context.Context, file string) (map[string]float64, error) {
	got, sum := map[string]float64{}, 0.0
	for _, p := range parts {
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=1", "-focus="+p.focus, file) //nolint:gosec // constants
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

// parseFocused is the share, in percent, of the samples that a focus leaves; 0 of none.
func parseFocused(out []byte) float64 {
	m := focused.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64) // digits and a point
	return v
}
