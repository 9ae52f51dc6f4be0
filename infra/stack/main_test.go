package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this test binary stand in for the directory, the routers and the
// cells, and for a process that has a stack: what is tested here is how processes are started, watched and stopped.
// The real ones run in infra/cmd/cellway's tests and in loadtest.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "directory", "router", "cell", "mover":
		if err := standIn(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	case "parent":
		if _, err := Start(context.Background(), Options{Dir: os.Args[1], BinDir: os.Args[2], Cells: 1, Routers: 1}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {} // until it is killed
	default:
		os.Exit(m.Run())
	}
}

// standIn listens where the environment says and ends on SIGTERM. The setting
// FAIL makes it end with its value as the message, once it has begun to listen.
func standIn(name string) error {
	prefix := strings.ToUpper(name) + "_"
	if len(os.Args) > 1 && os.Args[1] == "issue-token" {
		fmt.Println("token-of-" + os.Args[5])
		return nil
	}
	if len(os.Args) > 1 && os.Args[1] == "derive-keys" {
		fmt.Println("keys-for-" + os.Args[3])
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for _, listener := range []string{"LISTEN_ADDR", "ADMIN_ADDR"} {
		addr := os.Getenv(prefix + listener)
		if addr == "" {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go http.Serve(ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	if why := os.Getenv(prefix + "FAIL"); why != "" {
		return errors.New(why)
	}
	<-ctx.Done()
	return nil
}

// binDir is a directory in which this binary has the names of those it stands in for.
func binDir(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"directory", "router", "cell", "mover", "parent"} {
		if err := os.Symlink(exe, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// dataDir is a directory that Postgres's user can reach, unlike t.TempDir's.
func dataDir(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers, which -short leaves out")
	}
	dir, err := os.MkdirTemp("", "cellway-stack-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// begin starts a small stack that stops with the test.
func begin(t *testing.T, opts Options) *Stack {
	t.Helper()
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustStop(t, s) })
	return s
}

func mustStop(t *testing.T, s *Stack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}
