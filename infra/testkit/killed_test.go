package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// hangEnv makes this binary start a server and wait to be killed.
const hangEnv = "TESTKIT_TEST_HANG"

func TestHang(t *testing.T) {
	if os.Getenv(hangEnv) == "" {
		t.Skip("part of TestAKilledBinaryLeavesNothing")
	}
	url := Postgres(t)
	fmt.Println("server", url, kit.dir.path)
	select {}
}

func TestAKilledBinaryLeavesNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || testing.Short() {
		t.Skip("needs a server, and a kernel that ties it to its parent")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHang$")
	cmd.Env = append(os.Environ(), hangEnv+"=1", modeEnv+"="+modeLocal)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, dir := serverOf(t, bufio.NewScanner(out))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	eventually(t, "the server ends", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			conn.Close(t.Context())
		}
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	eventually(t, "the next run removes its files", func() bool {
		next, err := newRunDir()
		if err != nil {
			t.Fatal(err)
		}
		defer next.remove()
		_, err = os.Stat(filepath.Join(dir, "pgdata"))
		return errors.Is(err, os.ErrNotExist)
	})
}

func serverOf(t *testing.T, lines *bufio.Scanner) (url, dir string) {
	t.Helper()
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "server %s %s", &url, &dir); err == nil {
			return url, dir
		}
	}
	t.Fatal("the other binary started no server")
	return "", ""
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}
