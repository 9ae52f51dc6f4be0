package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/testkit"
)

// runSelf makes this test binary be the cell, so that tests run a real process.
const runSelf = "CELLTEST_RUN=1"

func TestMain(m *testing.M) {
	if os.Getenv("CELLTEST_RUN") != "" {
		main()
		return
	}
	testkit.Main(m)
}

// A stage is what a cell's processes need.
type stage struct {
	t          *testing.T
	owner, app string
	redis      string
	tokens     string
	assertion  token.Keys
	assertKeys string
	directory  *fakeDirectory
	api        int
}

// fakeDirectory takes registrations over the real contract.
type fakeDirectory struct {
	*httptest.Server
	cells chan directory.Cell
	beats chan string
}

func newDirectory(t *testing.T) *fakeDirectory {
	t.Helper()
	d := &fakeDirectory{cells: make(chan directory.Cell, 16), beats: make(chan string, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/cells", func(w http.ResponseWriter, r *http.Request) {
		var c directory.Cell
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil || r.Header.Get("Authorization") != "Bearer cell-token" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		d.cells <- c
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c)
	})
	mux.HandleFunc("POST /v1/cells/{cell}/heartbeat", func(w http.ResponseWriter, r *http.Request) {
		select {
		case d.beats <- r.PathValue("cell"):
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, owner: testkit.Postgres(t), redis: testkit.Redis(t), tokens: token.NewKey("t"), assertKeys: token.NewKey("a")}
	u, err := url.Parse(s.owner)
	if err != nil {
		t.Fatal(err)
	}
	s.app = testkit.SetUser(t, s.owner, "app_"+strings.TrimPrefix(u.Path, "/"), "secret")
	if s.assertion, err = token.ParseKeys(s.assertKeys); err != nil {
		t.Fatal(err)
	}
	s.directory = newDirectory(t)
	if s.api, err = local.FreePort(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) environ(role string, admin int, more ...string) []string {
	return append([]string{
		"CELL_ID=c1", "CELL_ROLE=" + role, fmt.Sprintf("CELL_LISTEN_ADDR=127.0.0.1:%d", s.api),
		fmt.Sprintf("CELL_ADMIN_ADDR=127.0.0.1:%d", admin), "CELL_OWNER_DATABASE_URL=" + s.owner,
		"CELL_DATABASE_URL=" + s.app, "CELL_REDIS_URL=" + s.redis, "CELL_DIRECTORY_URL=" + s.directory.URL,
		"CELL_DIRECTORY_TOKEN=cell-token", "CELL_TOKEN_KEYS=" + s.tokens, "CELL_ASSERTION_KEYS=" + s.assertKeys,
		"CELL_CONTROL_KEYS=" + s.assertion.Public().Text(),
	}, more...)
}

// A cellProcess is a running cell.
type cellProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	admin string
	log   lockedBuffer
	ended chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a process and waits until it is ready.
func (s *stage) start(role string, more ...string) *cellProcess {
	s.t.Helper()
	admin, err := local.FreePort()
	if err != nil {
		s.t.Fatal(err)
	}
	p := &cellProcess{t: s.t, cmd: exec.Command(os.Args[0]), admin: fmt.Sprintf("http://127.0.0.1:%d", admin), ended: make(chan error, 1)}
	p.cmd.Env = append(s.environ(role, admin, more...), runSelf)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	s.t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it has ended, unless the test failed
	eventually(s.t, "ready", func() bool { return get(p.admin+"/readyz") == 200 }, &p.log)
	return p
}

// stop asks the process to end and gives its exit.
func (p *cellProcess) stop(sig syscall.Signal) error {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(30 * time.Second):
		p.t.Fatalf("the process does not end\n%s", p.log.String())
		return nil
	}
}

func get(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool, log fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not %s in time\n%s", what, log)
		}
	}
}

// call performs a request of a tenant and gives the body of the answer.
func (s *stage) call(method, path, body string) (int, []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", s.api, path), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := s.assertion.Assert(token.Assertion{Tenant: 7, Cell: "c1", Epoch: 1, Window: time.Now().Unix()})
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(token.AssertionHeader, a)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// activities is how many events the consumer has seen.
func (s *stage) activities() int {
	status, body := s.call("GET", "/v1/activity", "")
	var page struct{ Items []struct{ Seq int64 } }
	if err := json.Unmarshal(body, &page); status != 200 || err != nil {
		s.t.Fatalf("activity: got %d %s", status, body)
	}
	for i, a := range page.Items {
		if a.Seq != int64(i+1) {
			s.t.Errorf("activity %d has seq %d", i, a.Seq)
		}
	}
	return len(page.Items)
}
