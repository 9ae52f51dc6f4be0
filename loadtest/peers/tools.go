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

// debian has the packages of what is not built here.
var debian = map[string]string{
	"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "strace": "strace", "taskset": "util-linux",
}

// installed is where a program of Debian is.
func installed(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if info, err := os.Stat("/usr/sbin/" + name); err == nil && info.Mode()&0o111 != 0 {
		return "/usr/sbin/" + name, nil
	}
	return "", fmt.Errorf("%s is not on this machine: run `apt-get install %s` (in a clone: `./infra/deps.sh peers`)", name, debian[name])
}

// buildTime bounds the build of a peer: Traefik's takes a quarter of an hour on two cores.
const buildTime = 40 * time.Minute

// peerModules are the packages that nested modules pin.
var peerModules = map[string]string{"caddy": "github.com/caddyserver/caddy/v2/cmd/caddy", "traefik": "github.com/traefik/traefik/v3/cmd/traefik"}

// built is where a peer is that is a Go module, built if it has to be.
func (l *lab) built(ctx context.Context, name string) (string, error) {
	path := filepath.Join(l.o.BinDir, "peers", name)
	if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
		return path, nil
	}
	if !l.o.Build {
		return "", errors.New("it is not built; without --build=false it would be")
	}
	l.say("building %s, once", name)
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-o", path, peerModules[name]) //nolint:gosec // constants
	cmd.Dir = filepath.Join(l.o.Source, "infra", "tools", name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, bytes.TrimSpace(out[max(0, len(out)-300):]))
	}
	return path, nil
}

// wrk keeps 64 connections busy, closed loop: for the most that a proxy carries. What it
// brought is there also beside a bottleneck.
func (l *lab) wrk(ctx context.Context, c *contender, url string) (offered, error) {
	path, err := installed("wrk")
	if err != nil {
		return offered{}, notApplicable{err.Error()}
	}
	seconds := max(1, int(l.o.For.Seconds()))
	args := []string{"-t1", "-c" + strconv.Itoa(l.o.Conns), "-d" + strconv.Itoa(seconds) + "s", "-H", "Host: " + host(1), url}
	var o offered
	out, refused := l.against(ctx, c, &o.cost, path, args...)
	if refused != nil && !isBottleneck(refused) {
		return o, refused
	}
	if o.loadResult, err = parseWrk(out); err != nil {
		return o, err
	}
	return o, refused
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(ms|s|m)`)
	wrkErrors   = regexp.MustCompile(`(Non-2xx or 3xx responses|Socket errors): (.*)`)
	h2Finished  = regexp.MustCompile(`finished in ([0-9.]+)(us|ms|s|m)`)
	h2Succeeded = regexp.MustCompile(`(\d+) succeeded, (\d+) failed`)
	h2Status    = regexp.MustCompile(`status codes: (\d+) 2xx`)
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
