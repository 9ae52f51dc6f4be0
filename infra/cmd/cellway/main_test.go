package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/infra/testkit/product"
)

// binaries is a directory with the product's programs.
func binaries(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers, which -short leaves out")
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// own is the directory that the programs are built into, "" where none are.
var own string

var built = sync.OnceValues(func() (dir string, err error) {
	if own, err = os.MkdirTemp("", "cellway-bin-"); err != nil {
		return "", err
	}
	return product.In(own, "directory", "router", "cell", "infra")
})

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(own)
	os.Exit(code)
}

// dataDir is a directory that Postgres's user can reach, unlike t.TempDir's.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := stack.TempDir("", "cellway up-") // a path with a space
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A session is a `cellway up` in its own process.
type session struct {
	cmd            *exec.Cmd
	stdout, stderr *buffer
	ended          chan struct{}
}

// start starts cellway with args; it ends with the test.
func start(t *testing.T, args ...string) *session {
	t.Helper()
	s := &session{
		cmd:    exec.Command(filepath.Join(binaries(t), "cellway"), args...),
		stdout: newBuffer(), stderr: newBuffer(), ended: make(chan struct{}),
	}
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // ProcessState says it
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
		s.wait(t)
	})
	return s
}

// wait is the exit code, -1 after a signal.
func (s *session) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(2 * time.Minute):
		_ = s.cmd.Process.Kill() // the test has failed
		t.Fatalf("cellway does not end:\n%s", s.stderr)
	}
	return s.cmd.ProcessState.ExitCode()
}

// await waits until out has text, or fails when the process ends first.
func (s *session) await(t *testing.T, out *buffer, text string) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		changed := out.changed()
		if strings.Contains(out.String(), text) {
			return
		}
		select {
		case <-changed:
		case <-s.ended:
			if !strings.Contains(out.String(), text) {
				t.Fatalf("cellway ended without %q:\n%s%s", text, s.stdout, s.stderr)
			}
		case <-deadline:
			t.Fatalf("no %q:\n%s%s", text, s.stdout, s.stderr)
		}
	}
}

// call runs cellway to its end.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return execute(t, filepath.Join(binaries(t), "cellway"), args...)
}

func execute(t *testing.T, path string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// A buffer can be read while it is written, and tells when it was.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.more)
	b.more = make(chan struct{})
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// changed is closed by the next write.
func (b *buffer) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.more
}
