package e2e

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/loadtest"
)

// An edge is a router of a story's own, beside those of the stack.
type edge struct {
	t          *testing.T
	env        []string
	log        string
	url, admin string
	cmd        *exec.Cmd
	done       chan error
	ep         *loadtest.Endpoint
}

// newEdge describes a router that follows the directory at directoryURL and keeps its
// table in tableFile; more is further environment.
func (w *world) newEdge(t *testing.T, directoryURL, tableFile string, more ...string) *edge {
	t.Helper()
	st := w.State()
	e := &edge{t: t, log: filepath.Join(t.TempDir(), "router.log")}
	listen, admin := freeAddr(t), freeAddr(t)
	e.url, e.admin = "http://"+listen, "http://"+admin
	id := slug("edge")
	for _, setting := range more {
		if name, value, _ := strings.Cut(setting, "="); name == "ROUTER_ID" {
			id = value
		}
	}
	token, err := w.RouterToken(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	e.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "ROUTER_ID=" + id, "ROUTER_LISTEN_ADDR=" + listen, "ROUTER_ADMIN_ADDR=" + admin,
		"ROUTER_DIRECTORY_URL=" + directoryURL, "ROUTER_DIRECTORY_TOKEN=" + token,
		"ROUTER_TOKEN_KEYS=" + st.TokenKeys, "ROUTER_ASSERTION_KEYS=" + st.AssertionKeys, "ROUTER_TABLE_FILE=" + tableFile,
	}, more...)
	e.ep = loadtest.NewEndpoint(e.url)
	t.Cleanup(func() {
		e.ep.Close()
		if t.Failed() {
			t.Logf("log of the story's own router:\n%s", local.Tail(e.log, 20))
		}
	})
	return e
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}

// start starts the router and waits until it is ready.
func (e *edge) start() *edge {
	e.t.Helper()
	e.launch()
	until(e.t, "the router to be ready", func() bool {
		select {
		case err := <-e.done:
			e.done <- err
			e.t.Fatalf("router ended: %v\n%s", err, e.logged())
		default:
		}
		req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.admin+"/readyz", nil)
		if err != nil {
			e.t.Fatal(err)
		}
		resp, err := new(http.Client).Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return e
}

// launch starts the router and does not wait.
func (e *edge) launch() {
	e.t.Helper()
	bin, err := binaries()
	if err != nil {
		e.t.Fatal(err)
	}
	log, err := os.OpenFile(e.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.cmd = exec.Command(filepath.Join(bin, "router"))
	e.cmd.Env, e.cmd.Stdout, e.cmd.Stderr = e.env, log, log
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.done = make(chan error, 1)
	done, cmd := e.done, e.cmd
	go func() { done <- cmd.Wait() }()
	e.t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
}

// end sends the signal and waits for the end.
func (e *edge) end(sig os.Signal) error {
	e.t.Helper()
	if err := e.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Fatal(err)
	}
	return e.exit()
}

// exit waits for the end of the process and says how it was.
func (e *edge) exit() error {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 30*time.Second)
	defer cancel()
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		e.t.Fatalf("router does not end\n%s", e.logged())
		return nil
	}
}

func (e *edge) kill() { _ = e.end(syscall.SIGKILL) }

func (e *edge) logged() string {
	b, err := os.ReadFile(e.log)
	if err != nil {
		e.t.Fatal(err)
	}
	return string(bytes.TrimSpace(b))
}

// of is the tenant as seen through this router.
func (e *edge) of(tenant *loadtest.Tenant) *loadtest.Tenant {
	return loadtest.Adopt(e.ep, &loadtest.Recorder{}, tenant.Tenant, tenant.Token, loadtest.Plan{})
}

// ask makes one request in nobody's name.
func (e *edge) ask(r loadtest.Request) loadtest.Answer {
	e.t.Helper()
	a, err := e.ep.Do(within(e.t, patience), r)
	if err != nil {
		e.t.Fatal(err)
	}
	return a
}
