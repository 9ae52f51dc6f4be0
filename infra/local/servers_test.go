package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// open is a directory that Postgres's user can reach.
func open(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers, which -short leaves out")
	}
	dir, err := os.MkdirTemp("", "cellway-local-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func port(t *testing.T) int {
	t.Helper()
	p, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// cluster is a new Postgres, not started, in a directory of its own.
func cluster(ctx context.Context, t *testing.T) Postgres {
	t.Helper()
	dir := open(t)
	bin, err := FindPostgres("")
	if err != nil {
		t.Skip(err)
	}
	user, err := Unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	srv := Postgres{
		Name: "postgres", Bin: bin, Data: filepath.Join(dir, "data"), Port: port(t), Password: "right",
		Log: filepath.Join(dir, "log"), User: user, OnOrphan: syscall.SIGQUIT,
	}
	if err := InitDB(ctx, bin, srv.Data, srv.Password, user); err != nil {
		t.Fatal(err)
	}
	return srv
}

// A child that does not notice that its server was killed keeps the next one from
// starting, until it is ended.
func TestWhatAKilledPostgresLeavesBehindEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	srv := cluster(ctx, t)
	start := func() *Process {
		t.Helper()
		if err := srv.EndLeftovers(ctx); err != nil {
			t.Fatal(err)
		}
		p, err := StartReady(ctx, srv.Command(), srv.Answers)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := start()
	t.Cleanup(first.Kill)
	if ids, err := leftovers(srv.Data); err != nil || len(ids) > 0 {
		t.Fatalf("a server that runs has left %v behind, %v", ids, err)
	}
	stuck := childOf(t, first.PID)
	t.Cleanup(func() { _ = stuck.Signal(syscall.SIGKILL) })
	if err := stuck.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	if !stuck.Alive() {
		t.Fatal("nothing was left behind")
	}
	second := start()
	t.Cleanup(second.Kill)
	if stuck.Alive() {
		t.Error("it is still there")
	}
	if err := second.Stop(ctx, syscall.SIGINT, time.Minute); err != nil {
		t.Error(err)
	}
}

// childOf is one child of a process.
func childOf(t *testing.T, pid int) Identity {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Skip(err) // no Linux
	}
	var child int
	if _, err := fmt.Sscan(string(children), &child); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(child)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPostgresIsTheOneThatWasStarted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	srv := cluster(ctx, t)
	dir := filepath.Dir(srv.Data)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("initdb left %v (%v), want the data directory alone", left, err)
	}
	p, err := StartReady(ctx, srv.Command(), srv.Answers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	wrong, other := srv, srv
	wrong.Password, other.Data = "wrong", "/elsewhere"
	if err := wrong.Answers(ctx); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("wrong password: got %v", err)
	}
	if err := other.Answers(ctx); err == nil || !strings.Contains(err.Error(), "another Postgres") {
		t.Errorf("another server's port: got %v", err)
	}
	if err := p.Stop(ctx, syscall.SIGINT, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestRedisIsTheOneThatWasStarted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(open(t), `with "a" space`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := FindRedis("")
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	srv := Redis{Name: "redis", Bin: bin, Dir: dir, Port: port(t), Password: "right", Log: filepath.Join(dir, "log"), OnOrphan: syscall.SIGKILL}
	if err := srv.Configure(); err != nil {
		t.Fatal(err)
	}
	p, err := StartReady(ctx, srv.Command(), srv.Answers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	wrong := srv
	wrong.Password = "wrong"
	if err := wrong.Answers(ctx); err == nil {
		t.Error("a wrong password is taken")
	}
	second := srv
	second.Name, second.Log = "second", filepath.Join(dir, "log2")
	if _, err := StartReady(ctx, second.Command(), wrong.Answers); err == nil || !PortTaken(second.Log) {
		t.Errorf("a second server on the port: got %v", err)
	}
	if cmd := srv.Command(); strings.Contains(strings.Join(cmd.Args, " "), srv.Password) {
		t.Errorf("the password is on the command line: %v", cmd.Args)
	}
}
