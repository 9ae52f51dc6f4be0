package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary be a parent that starts a child and waits to be killed.
func TestMain(m *testing.M) {
	if log := os.Getenv("LOCAL_TEST_PARENT"); log != "" {
		p, err := Start(Command{Name: "child", Path: "/bin/sleep", Args: []string{"600"}, Log: log, OnOrphan: syscall.SIGKILL})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.PID)
		select {}
	}
	os.Exit(m.Run())
}

// shell starts a script that ends with the test.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Command{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")},
		Log: filepath.Join(t.TempDir(), "log"), OnOrphan: syscall.SIGKILL,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// logged waits until the script has written text.
func logged(t *testing.T, p *Process, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.Await(ctx, func(context.Context) error {
		if !strings.Contains(Tail(p.Log, 10), text) {
			return errors.New("not written yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	polite := shell(t, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")
	logged(t, polite, "up")
	if err := polite.Stop(t.Context(), syscall.SIGTERM, time.Minute); err != nil || Tail(polite.Log, 1) != "bye" {
		t.Errorf("got %v, log %q, want an orderly end", err, Tail(polite.Log, 1))
	}
	if err := polite.Stop(t.Context(), syscall.SIGTERM, time.Minute); err != nil {
		t.Errorf("second time: got %v, want nothing to do", err)
	}
	stubborn := shell(t, "trap '' TERM; echo up; while :; do sleep 0.01; done")
	logged(t, stubborn, "up")
	if err := stubborn.Stop(t.Context(), syscall.SIGTERM, time.Millisecond); err == nil || stubborn.Alive() {
		t.Errorf("got %v, alive %v, want it killed and said so", err, stubborn.Alive())
	}
}

func TestTheEndOfAChildSaysWhy(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo no table projects >&2; exit 3")
	if err := p.Await(t.Context(), func(context.Context) error { return errors.New("refused") }); err == nil ||
		!strings.Contains(err.Error(), "script ended (exit status 3)") || !strings.Contains(err.Error(), "no table projects") {
		t.Errorf("got %v, want status and log", err)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: got %v, want os.ErrProcessDone", err)
	}
}

func TestAwaitGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo starting; exec sleep 600")
	logged(t, p, "starting")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.Await(ctx, func(context.Context) error { return errors.New("refused") })
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "starting") {
		t.Errorf("got %v, want the last refusal and the log", err)
	}
	if !p.Alive() || p.Err() != nil {
		t.Error("Await ended the child")
	}
}

func TestStartOfWhatIsNot(t *testing.T) {
	t.Parallel()
	_, err := Start(Command{Name: "nothing", Path: "/nonexistent", Log: filepath.Join(t.TempDir(), "log")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start nothing") {
		t.Errorf("got %v", err)
	}
}

func TestAChildDoesNotOutliveItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child to its parent")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "LOCAL_TEST_PARENT="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("parent says %q", line)
	}
	child, err := Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	awaitEnd(t, child)
}

func awaitEnd(t *testing.T, id Identity) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for id.Alive() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d still runs", id.PID)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	p := shell(t, "exec sleep 600")
	id, err := Identify(p.PID)
	if err != nil || !id.Alive() {
		t.Fatalf("got %v (%v), want it alive", id, err)
	}
	other := Identity{PID: p.PID, Began: id.Began + "0"}
	if other.Alive() || !errors.Is(other.Signal(syscall.SIGKILL), os.ErrProcessDone) || !id.Alive() {
		t.Error("another process with this id was taken for it")
	}
	if err := id.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if id.Alive() || (Identity{PID: p.PID}).Alive() {
		t.Error("it is alive after its end")
	}
	if _, err := Identify(p.PID); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v, want os.ErrProcessDone", err)
	}
}
