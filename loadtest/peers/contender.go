package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/local"
)

// A contender is one proxy under test.
type contender struct {
	name string
	// plan writes what the proxy reads into dir and says how it is started.
	plan func(l *lab, c *contender, dir string) (local.Command, error)
	// settle, where there is one, asks of the proxy what can be asked only when it runs.
	settle func(ctx context.Context, c *contender) error

	plain, tls, admin string // addresses; tls and admin are "" where it has none
	process           *local.Process
}

// core0 and core1 are where the proxies, and what puts load on them, run.
const (
	core0 = "0"
	core1 = "1"
)

// pinned makes a command run on one core, "" on any. A process that starts so
// sees one core, and sets itself up for it.
func pinned(core, path string, args ...string) (string, []string, error) {
	if core == "" {
		return path, args, nil
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return "", nil, fmt.Errorf("pin to a core: %w (util-linux has it)", err)
	}
	return taskset, append([]string{"-c", core, path}, args...), nil
}

// start starts the proxy on the lab's core and waits until it answers as it must.
func (c *contender) start(ctx context.Context, l *lab) error {
	dir := filepath.Join(l.dir, c.name+l.phase())
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // workers of another user read it
		return fmt.Errorf("make directory: %w", err)
	}
	for _, addr := range []*string{&c.plain, &c.tls, &c.admin} {
		port, err := local.FreePort()
		if err != nil {
			return err
		}
		*addr = "127.0.0.1:" + strconv.Itoa(port)
	}
	cmd, err := c.plan(l, c, dir)
	if err != nil {
		return err
	}
	cmd.Name, cmd.Dir, cmd.Log, cmd.OnOrphan = c.name, dir, filepath.Join(dir, "log"), syscall.SIGTERM
	if cmd.Path, cmd.Args, err = pinned(l.proxyCore, cmd.Path, cmd.Args...); err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	}
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.process, err = local.StartReady(ready, cmd, func(ctx context.Context) error {
		if err := c.answers(ctx, c.plain, false); err != nil || c.settle == nil {
			return err
		}
		return c.settle(ctx, c)
	})
	if err == nil && c.tls != "" {
		if broken := c.answers(ctx, c.tls, true); broken != nil {
			l.say("%s: no TLS: %v", c.name, broken)
			c.tls = ""
		}
	}
	return err
}

// answers reports whether the last tenant's request comes back whole.
func (c *contender) answers(ctx context.Context, addr string, overTLS bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scheme := "http"
	if overTLS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+"/b/7", nil)
	if err != nil {
		return err
	}
	req.Host = host(1)
	t := &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: req.Host}, //nolint:gosec // our own certificate of this run
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength != 7 {
		return fmt.Errorf("%s answers %s with %d bytes", c.name, resp.Status, resp.ContentLength)
	}
	return nil
}

// stop ends the proxy and its workers.
func (c *contender) stop(ctx context.Context) error {
	if c.process == nil {
		return nil
	}
	p := c.process
	c.process = nil
	return p.Stop(ctx, syscall.SIGTERM, 20*time.Second)
}

// engines are the values of ROUTER_ENGINE that this router takes, best first.
func engines(ctx context.Context, router string) []string {
	var have []string
	for _, e := range []string{"loop", "h1", "std"} {
		cmd := exec.CommandContext(ctx, router, "--print-config")
		cmd.Env = append(routerEnv("127.0.0.1:1", "http://127.0.0.1:1", "table"), "ROUTER_ENGINE="+e)
		if cmd.Run() == nil {
			have = append(have, e)
		}
	}
	return have
}

// cellway is our router with an engine.
func cellway(engine string) *contender {
	return &contender{name: "cellway-" + engine, settle: logNothing, plan: func(l *lab, c *contender, dir string) (local.Command, error) {
		policy := filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(policy, []byte(limits), 0o600); err != nil {
			return local.Command{}, fmt.Errorf("write the policy: %w", err)
		}
		env := append(routerEnv(c.plain, l.feed.URL, filepath.Join(dir, "table")), "ROUTER_ENGINE="+engine, "ROUTER_ADMIN_ADDR="+c.admin, "ROUTER_POLICY_FILE="+policy,
			"ROUTER_TLS_LISTEN_ADDR="+c.tls, "ROUTER_TLS_HOSTS_DIR="+l.cert.hostsDir)
		return local.Command{Path: l.router(), Env: env}, nil
	}}
}

// logNothing makes our router write no line for a request, as no peer does: it writes one for each unless told.
func logNothing(ctx context.Context, c *contender) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.admin+"/log-level?level=warn", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("quiet %s: %w", c.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("quiet %s: %s", c.name, resp.Status)
	}
	return nil
}

// limits are counted for each request, by the client's address and by tenant, and never reached.
const limits = `
clients: {requests: 1000000000, window: 1s, concurrent: 1000000}
tiers:
  default: {requests: 1000000000, window: 1s, concurrent: 1000000}
waf: {mode: off}
`

// routerEnv is what the router needs, with room for every load of the benchmark.
func routerEnv(listen, directory, table string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "ROUTER_LISTEN_ADDR=" + listen, "ROUTER_DIRECTORY_URL=" + directory, "ROUTER_TABLE_FILE=" + table,
		"ROUTER_ASSERTION_KEYS=" + newKey(), "ROUTER_AUTH=optional", "ROUTER_BASE_DOMAIN=" + baseDomain,
		"ROUTER_CELL_CONCURRENCY=8192", "ROUTER_MAX_BODY=" + strconv.Itoa(1<<30),
	}
}

// reverseProxy is net/http's, tuned, with the same map: see serveReverseProxy.
func reverseProxy() *contender {
	return &contender{name: "reverseproxy", plan: func(l *lab, c *contender, _ string) (local.Command, error) {
		return local.Command{Path: l.o.self, Args: []string{
			Part, "proxy", c.plain, c.tls, l.originAddr, l.cert.certFile, l.cert.keyFile, strconv.Itoa(l.o.Tenants),
		}}, nil
	}}
}

// floorName is the contender that no proxy can be under.
const floorName = "floor"

// floor is what remains where nothing is decided: see serveFloor.
func floor() *contender {
	return &contender{name: floorName, plan: func(l *lab, c *contender, _ string) (local.Command, error) {
		return local.Command{Path: l.o.self, Args: []string{Part, "floor", c.plain, c.tls, l.originAddr, l.cert.certFile, l.cert.keyFile}}, nil
	}}
}

// program is a contender that a binary and a configuration make.
func program(name, path string, configure func(l *lab, c *contender, dir string) (files map[string]string, args []string)) *contender {
	return &contender{name: name, plan: func(l *lab, c *contender, dir string) (local.Command, error) {
		files, args := configure(l, c, dir)
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil { //nolint:gosec // workers of another user read it
				return local.Command{}, fmt.Errorf("configure %s: %w", name, err)
			}
		}
		return local.Command{Path: path, Args: args}, nil
	}}
}

// tenantLines is one line for each tenant.
func tenantLines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, host(i))
	}
	return b.String()
}
