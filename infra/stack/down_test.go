package stack

import (
	"bufio"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/local"
)

func TestDownAfterTheParentWasKilled(t *testing.T) {
	t.Parallel()
	dir, bin := dataDir(t), binDir(t)
	parent := exec.Command(filepath.Join(bin, "parent"), dir, bin)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent did not start its stack: %q %v", line, err)
	}
	st, err := Load(dir)
	if err != nil || len(st.Processes) != 8 {
		t.Fatalf("got %d processes (%v), want 8", len(st.Processes), err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	down(t, dir)
	for _, p := range st.Processes {
		if p.Alive() {
			t.Errorf("%s still runs", p.Name)
		}
	}
	if err := Down(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("second time: got %v, want ErrNotRunning", err)
	}
	begin(t, Options{Dir: dir, BinDir: bin, Cells: 1, Routers: 1}) // nothing is in the way
}

func TestDownEndsOnlyWhatIsRecorded(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	orphan, foreign := sleeper(t), sleeper(t)
	other := foreign.Identity
	other.Began = "before/1" // as if the id had been another process's
	st := State{Dir: dir, Owner: other, Processes: []Process{
		{Name: "c1", Identity: orphan.Identity}, {Name: "c1-worker", Identity: other},
	}}
	if err := writeJSON(statePath(dir), st); err != nil {
		t.Fatal(err)
	}
	down(t, dir)
	if orphan.Alive() {
		t.Error("the orphan still runs")
	}
	if !foreign.Alive() {
		t.Error("a process that was never ours has ended")
	}
}

func TestDownWaitsForAnOwnerThatStops(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	owner := sleeper(t)
	if err := writeJSON(statePath(dir), State{Dir: dir, Owner: owner.Identity}); err != nil {
		t.Fatal(err)
	}
	down(t, dir)
	if owner.Alive() {
		t.Error("the owner still runs")
	}
}

func down(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Down(ctx, dir); err != nil {
		t.Fatal(err)
	}
}

// sleeper is a process that ends when it is told to, or with the test.
func sleeper(t *testing.T) Process {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	p, err := local.Start(local.Command{Name: "sleep", Path: path, Args: []string{"600"}, Log: filepath.Join(t.TempDir(), "log"), OnOrphan: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	id, err := local.Identify(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	return Process{Name: "sleep", Identity: id}
}
