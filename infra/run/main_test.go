package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary be the process that Main runs: RUN_TEST says how it
// behaves.
func TestMain(m *testing.M) {
	switch os.Getenv("RUN_TEST") {
	case "":
		os.Exit(m.Run())
	case "wait":
		Main("proc", func(ctx context.Context) error {
			fmt.Println("ready")
			<-ctx.Done()
			return ctx.Err()
		})
	case "stubborn":
		Main("proc", func(ctx context.Context) error {
			fmt.Println("ready")
			<-ctx.Done()
			select {}
		})
	case "service":
		Service("proc", aService)
	case "fail":
		Main("proc", func(context.Context) error { return errors.New("open database: no route") })
	case "canceled":
		Main("proc", func(context.Context) error { return fmt.Errorf("ask: %w", context.Canceled) }) // and nobody asked for it
	case "usage":
		Main("proc", func(context.Context) error {
			return fmt.Errorf("parse: %w", &Exit{Code: 2, Err: errors.New("unknown flag")})
		})
	}
}

func command(t *testing.T, how string) (*exec.Cmd, *bufio.Reader, *strings.Builder) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "RUN_TEST="+how)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out), &stderr
}

func expect(t *testing.T, out *bufio.Reader, want string) {
	t.Helper()
	if line, err := out.ReadString('\n'); err != nil || line != want+"\n" {
		t.Fatalf("got %q (%v), want %q", line, err, want)
	}
}

func TestMainEndsWith(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		how  string
		code int
		text string
	}{{"fail", 1, "proc: open database: no route\n"}, {"usage", 2, "proc: parse: unknown flag\n"}, {"canceled", 1, "proc: ask: context canceled\n"}} {
		cmd, _, stderr := command(t, tt.how)
		_ = cmd.Wait() // the code says it
		if got := cmd.ProcessState.ExitCode(); got != tt.code || stderr.String() != tt.text {
			t.Errorf("%s: got %d %q, want %d %q", tt.how, got, stderr, tt.code, tt.text)
		}
	}
}

func TestMainStopsInOrderOnASignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		cmd, out, stderr := command(t, "wait")
		expect(t, out, "ready")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("%v: got %v, %q, want a silent end with 0", sig, err, stderr)
		}
	}
}

func TestASecondSignalKills(t *testing.T) {
	t.Parallel()
	cmd, out, _ := command(t, "stubborn")
	expect(t, out, "ready")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the status says how
	}()
	// The handler goes shortly after the first signal: one soon after it counts.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
			waiting = false
		case <-tick.C:
		}
	}
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGTERM {
		t.Errorf("got %v, want an end by the signal", cmd.ProcessState)
	}
}
