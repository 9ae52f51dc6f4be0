package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/stack"
)

// lastLine ends what `cellway up` prints when everything runs.
const lastLine = "Ctrl-C stops everything."

func TestADayWithUp(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	up := start(t, "up", "--cells", "2", "--routers", "1", "--data", dir)
	up.await(t, up.stdout, lastLine)
	st := load(t, dir)

	t.Run("what it tells to try works as it stands", func(t *testing.T) {
		script := "set -e\n" + strings.Join(commandsOf(up.stdout.String()), "\n")
		code, stdout, stderr := execute(t, "bash", "-c", script)
		if code != 0 {
			t.Fatalf("got exit code %d: %s%s", code, stdout, stderr)
		}
		for _, want := range []string{`"Moon"`, "c1", "c2"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("got %s, want it to contain %s", stdout, want)
			}
		}
	})
	t.Run("a second one is refused", func(t *testing.T) {
		code, _, stderr := call(t, "up", "--data", dir)
		if code != 1 || !strings.Contains(stderr, "in use by process") || !strings.Contains(stderr, "cellway down --data "+dir) {
			t.Errorf("got %d %q, want a refusal that says what to do", code, stderr)
		}
	})
	t.Run("status shows everything ready", func(t *testing.T) {
		code, stdout, stderr := call(t, "status", "--data", dir, "-o", "json")
		var rows []row
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != 0 {
			t.Fatalf("got %d %q %q (%v)", code, stdout, stderr, err)
		}
		if len(rows) != len(st.Processes) {
			t.Errorf("got %d rows, want %d", len(rows), len(st.Processes))
		}
		for _, r := range rows {
			if r.State != "ready" && r.State != "running" {
				t.Errorf("%s is %s", r.Name, r.State)
			}
		}
	})
	t.Run("a crash is shown and the others go on", func(t *testing.T) {
		if err := process(t, st, "c2").Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		up.await(t, up.stderr, "! c2 ended")
		up.await(t, up.stderr, "the others keep running")
		code, stdout, stderr := call(t, "status", "--data", dir)
		if code != 1 || !strings.Contains(stderr, "c2 (dead)") || !regexp.MustCompile(`c1 +ready`).MatchString(stdout) {
			t.Errorf("got %d %q %q, want c2 dead and c1 ready", code, stdout, stderr)
		}
	})
	t.Run("Ctrl-C leaves nothing", func(t *testing.T) {
		if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := up.wait(t); code != 0 {
			t.Errorf("got exit code %d, want 0:\n%s", code, up.stderr)
		}
		nothingLeft(t, dir, st)
		if code, _, stderr := call(t, "status", "--data", dir); code != 1 || !strings.Contains(stderr, "no stack is running") {
			t.Errorf("status: got %d %q", code, stderr)
		}
	})
}

func TestDownStopsWhatRuns(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	up := start(t, "up", "--cells", "1", "--routers", "1", "--data", dir, "--port", freePort(t))
	up.await(t, up.stdout, lastLine)
	st := load(t, dir)
	if code, _, stderr := call(t, "down", "--data", dir); code != 0 {
		t.Errorf("got %d %q", code, stderr)
	}
	if code := up.wait(t); code != 0 {
		t.Errorf("up: got exit code %d, want 0: it was asked to stop", code)
	}
	nothingLeft(t, dir, st)
}

func TestDownAfterKill(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	up := start(t, "up", "--cells", "1", "--routers", "1", "--data", dir, "--port", freePort(t))
	up.await(t, up.stdout, lastLine)
	st := load(t, dir)
	if err := up.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	up.wait(t)
	if code, _, stderr := call(t, "down", "--data", dir); code != 0 {
		t.Errorf("got %d %q", code, stderr)
	}
	nothingLeft(t, dir, st)
}

func TestUpThatCannotStart(t *testing.T) {
	t.Parallel()
	binaries(t)
	dir := dataDir(t)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no Postgres", []string{"--postgres-bin", dir}, 1, "apt-get install postgresql"},
		{"no Redis", []string{"--redis-server", dir}, 1, "apt-get install redis-server"},
		{"no binaries", []string{"--bin-dir", dir}, 1, "make build"},
		{"no such flag", []string{"--cell", "3"}, 2, "unknown flag: --cell; see cellway up --help"},
	} {
		code, stdout, stderr := call(t, append([]string{"up", "--data", dir}, tt.args...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: got %d %q %q, want %d with %q", tt.name, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

func TestDownWithNothingToDo(t *testing.T) {
	t.Parallel()
	binaries(t)
	if code, _, stderr := call(t, "down", "--data", dataDir(t)); code != 0 || !strings.Contains(stderr, "no stack is running") {
		t.Errorf("got %d %q, want 0 and a word about it", code, stderr)
	}
}

// It runs alone: a program that was just written cannot be started while a test
// beside this one forks with the file still open.
func TestDemoIsLoadtestsWithAllFlags(t *testing.T) { //nolint:paralleltest // see above
	dir := t.TempDir()
	program, err := os.ReadFile(filepath.Join(binaries(t), "cellway"))
	if err != nil {
		t.Fatal(err)
	}
	cellway := filepath.Join(dir, "cellway")
	write(t, cellway, string(program))
	if code, _, stderr := execute(t, cellway, "demo"); code != 1 || !strings.Contains(stderr, "make build") {
		t.Errorf("without loadtest: got %d %q", code, stderr)
	}
	write(t, filepath.Join(dir, "loadtest"), "#!/bin/sh\necho \"$@\"\nexit 3\n")
	code, stdout, _ := execute(t, cellway, "demo", "-o", "json", "--cells", "4", "--help")
	if code != 3 || stdout != "demo -o json --cells 4 --help\n" {
		t.Errorf("got %d %q, want its flags and its exit code", code, stdout)
	}
}

// freePort keeps the stacks of this file out of each other's way: they start at
// the same time and would all take the usual port.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// commandsOf are the lines of the guide that are meant for a shell.
func commandsOf(guide string) []string {
	var out []string
	_, tries, _ := strings.Cut(guide, "\n1. ")
	for line := range strings.Lines(tries) {
		if cmd, ok := strings.CutPrefix(line, "   "); ok {
			out = append(out, strings.TrimSpace(cmd))
		}
	}
	return out
}

func load(t *testing.T, dir string) stack.State {
	t.Helper()
	st, err := stack.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func process(t *testing.T, st stack.State, name string) stack.Process {
	t.Helper()
	for _, p := range st.Processes {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return stack.Process{}
}

func nothingLeft(t *testing.T, dir string, st stack.State) {
	t.Helper()
	for _, p := range st.Processes {
		if p.Alive() {
			t.Errorf("%s still runs", p.Name)
		}
	}
	for _, name := range []string{"lock", "stack.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want no such file", name, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
