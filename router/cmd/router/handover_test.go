package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/config"
)

// runSelf makes this test binary be the router, so that tests run real processes,
// and raceEnd spares them the second that the race detector waits at the end.
const (
	runSelf = "ROUTERTEST_RUN=1"
	raceEnd = "GORACE=atexit_sleep_ms=0"
)

func TestMain(m *testing.M) {
	if os.Getenv("ROUTERTEST_RUN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A process is a router that runs, or has ended.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   string
	ended chan error
}

// launch starts a router and does not wait.
func launch(t *testing.T, env []string, files ...*os.File) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.ExtraFiles = files
	return launchAs(t, cmd, env)
}

// launchAs is launch by a command of the caller's.
func launchAs(t *testing.T, cmd *exec.Cmd, env []string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, log: filepath.Join(t.TempDir(), "log"), ended: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append([]string{runSelf, raceEnd}, env...), log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it has ended, unless the test failed
	return p
}

func (p *process) logged() string {
	b, _ := os.ReadFile(p.log) // for a message
	return string(b)
}

// awaitLog waits until the process has logged text.
func (p *process) awaitLog(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(p.logged(), text); {
		select {
		case err := <-p.ended:
			p.t.Fatalf("the router ended (%v)\n%s", err, p.logged())
		case <-time.After(5 * time.Millisecond): // the pause of a poll with a deadline
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no %q in the log\n%s", text, p.logged())
		}
	}
}

// exit waits for the end.
func (p *process) exit() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(60 * time.Second):
		p.t.Fatalf("the router does not end\n%s", p.logged())
		return nil
	}
}

// echo is a cell that answers with what it is sent.
func echo(t *testing.T) *httptest.Server {
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	t.Cleanup(cell.Close)
	return cell
}

// loaded is the environment of routers over a saved table with acme at the cell.
func loaded(t *testing.T, cell string, more ...string) ([]string, settings) {
	t.Helper()
	env := environ(t, append([]string{"ROUTER_AUTH=optional"}, more...)...)
	var s settings
	if err := config.Load(prefix, env, &s); err != nil {
		t.Fatal(err)
	}
	saveTable(t, s.TableFile, cell)
	return env, s
}

// A crowd asks steadily, and remembers what went wrong.
type crowd struct {
	t    *testing.T
	stop atomic.Bool
	wg   sync.WaitGroup
	done atomic.Int64
	fail atomic.Int64
}

// ask makes a client of the crowd. Its requests are POST with a body; where again
// is false, the transport cannot repeat one: what fails, fails.
func (c *crowd) ask(url string, again bool, tr *http.Transport) {
	c.wg.Go(func() {
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for n := 0; !c.stop.Load(); n++ {
			<-pace.C
			if err := c.once(client, url, fmt.Sprintf("%d", n), again); err != nil && c.fail.Add(1) < 5 {
				c.t.Errorf("%s, request %d: %v", url, n, err)
			}
			c.done.Add(1)
		}
	})
}

func (c *crowd) once(client *http.Client, url, body string, again bool) error {
	var r io.Reader = bytes.NewReader([]byte(body))
	if !again {
		r = struct{ io.Reader }{r}
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/t/acme/v1/x", r)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(got) != body {
		return fmt.Errorf("got %d %q (%w), want 200 %q", resp.StatusCode, got, err, body)
	}
	return nil
}

// TestF20RoutersReplacedUnderLoad: a router is replaced again and again, each time
// by one with the other engine, and no request fails: neither on connections that
// are kept, nor on new ones, plain, with TLS or HTTP/2. HANDOVER_ROUNDS says how often.
func TestF20RoutersReplacedUnderLoad(t *testing.T) {
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv("HANDOVER_ROUNDS")); err == nil {
		rounds = n
	}
	hosts, ca := hostsDir(t)
	env, s := loaded(t, echo(t).URL, "ROUTER_HANDOVER_SOCKET="+filepath.Join(t.TempDir(), "s"),
		"ROUTER_TLS_LISTEN_ADDR="+freeAddr(t), "ROUTER_TLS_HOSTS_DIR="+hosts)
	engines := []string{"std", "h1", "loop"}
	start := func(n int) *process {
		p := launch(t, append(env, "ROUTER_ENGINE="+engines[n%len(engines)]))
		p.awaitLog("router serves")
		return p
	}
	current := start(0)
	c := &crowd{t: t}
	plain, secure := "http://"+s.ListenAddr, "https://"+s.TLSListenAddr
	for range 3 {
		c.ask(plain, false, &http.Transport{MaxConnsPerHost: 1})
		c.ask(secure, false, &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{RootCAs: ca}})
		c.ask(secure, true, &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca}})
	}
	c.ask(plain, false, &http.Transport{DisableKeepAlives: true})
	c.ask(secure, false, &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca}})
	for n := 1; n <= rounds; n++ {
		next := start(n)
		if err := current.exit(); err != nil {
			t.Fatalf("round %d: the old router ended with %v\n%s", n, err, current.logged())
		}
		if got := status("http://" + s.AdminAddr + "/readyz"); got != http.StatusOK {
			t.Errorf("round %d: readyz is %d", n, got)
		}
		current = next
	}
	c.stop.Store(true)
	c.wg.Wait()
	t.Logf("%d requests, %d failed, while the router was replaced %d times", c.done.Load(), c.fail.Load(), rounds)
	if c.fail.Load() > 0 {
		t.Logf("the last router's log:\n%s", current.logged())
	}
}

// hostsDir has a certificate for 127.0.0.1, and the authority that made it.
func hostsDir(t *testing.T) (string, *x509.CertPool) {
	t.Helper()
	ca, err := certs.OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	made, dir := t.TempDir(), t.TempDir()
	if err := ca.Issue(made, certs.Request{Hosts: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{certs.CertFile: "default.crt", certs.KeyFile: "default.key"} {
		if err := os.Rename(filepath.Join(made, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Authority())
	return dir, pool
}

// TestF19ARouterIsKilled: of two routers one is killed; the other notices nothing,
// and the killed one starts again over what it left. With sockets of systemd nobody
// is even refused meanwhile.
func TestF19ARouterIsKilled(t *testing.T) {
	t.Parallel()
	cell := echo(t).URL
	env, s := loaded(t, cell, "ROUTER_HANDOVER_SOCKET="+filepath.Join(t.TempDir(), "s"))
	peerEnv, peer := loaded(t, cell)
	launch(t, peerEnv).awaitLog("router serves")
	c := &crowd{t: t}
	c.ask("http://"+peer.ListenAddr, false, &http.Transport{MaxConnsPerHost: 1})
	t.Cleanup(func() { // also where the test ends early
		c.stop.Store(true)
		c.wg.Wait()
	})

	p := launch(t, env)
	p.awaitLog("router serves")
	_ = p.cmd.Process.Kill()
	_ = p.exit() // by the signal
	p = launch(t, env)
	p.awaitLog("router serves")
	if got := ask(t, "http://"+s.ListenAddr+"/t/acme/x"); got != "200 " {
		t.Errorf("started again: got %q", got)
	}
	_ = p.cmd.Process.Kill()
	_ = p.exit()

	sockets, envOf := systemd(t, s.ListenAddr, s.AdminAddr), append(env, "LISTEN_FDS=2")
	p = launch(t, envOf, sockets...)
	p.awaitLog("router serves")
	_ = p.cmd.Process.Kill()
	_ = p.exit()
	waited := make(chan string, 1)
	go func() { waited <- ask(t, "http://"+s.ListenAddr+"/t/acme/x") }() // into the queue of the socket, or served later
	p = launch(t, envOf, sockets...)
	if got := <-waited; got != "200 " {
		t.Errorf("asked while no router ran: got %q", got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.exit(); err != nil {
		t.Errorf("told to stop: %v\n%s", err, p.logged())
	}
	c.stop.Store(true)
	c.wg.Wait()
	if c.done.Load() == 0 {
		t.Error("nobody asked the peer")
	}
}

// systemd holds a listening socket for each address, as systemd does.
func systemd(t *testing.T, addrs ...string) []*os.File {
	t.Helper()
	var files []*os.File
	for _, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = f.Close(), ln.Close() })
		files = append(files, f)
	}
	return files
}
