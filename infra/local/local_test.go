package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path, false); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	waiter := make(chan error, 1)
	go func() {
		second, err := Lock(path, true) // waits for the file that is going to be removed
		if err == nil {
			err = second.Remove()
		}
		waiter <- err
	}()
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiter; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the file gone", err)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for _, tt := range []struct{ text, want string }{
		{"", ""}, {"one\n", "one"}, {"one\ntwo\nthree\n", "two\nthree"}, {strings.Repeat("x", 2*maxTail) + "\nlast\nline\n", "last\nline"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Tail(path, 2); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	if got := Tail(path+"x", 2); got != "" {
		t.Errorf("got %q of no file, want nothing", got)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	port, err := FreePort()
	if err != nil || port < lowestPort || port > highestPort {
		t.Fatalf("got %d (%v), want one below those for outgoing connections", port, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if PortFree(ln.Addr().(*net.TCPAddr).Port) {
		t.Error("a port with a listener is called free")
	}
}

// program makes an executable file.
func program(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFindNamesWhatToInstall(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"postgres/postgres", "postgres/initdb", "half/postgres", "redis-server"} {
		program(t, filepath.Join(dir, name))
	}
	if got, err := FindPostgres(dir + "/postgres"); err != nil || got != dir+"/postgres" {
		t.Errorf("got %q (%v), want the named directory", got, err)
	}
	var missing *Missing
	if _, err := FindPostgres(dir + "/half"); !errors.As(err, &missing) || missing.Package != "postgresql" {
		t.Errorf("got %v, want the package of what is missing", err)
	}
	t.Setenv(PostgresBinEnv, dir+"/postgres")
	if got, err := FindPostgres(""); err != nil || got != dir+"/postgres" {
		t.Errorf("got %q (%v), want what the environment names", got, err)
	}
	t.Setenv(RedisServerEnv, dir+"/none")
	if _, err := FindRedis(""); !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("got %v, want the package of what is missing", err)
	}
	t.Setenv(RedisServerEnv, "")
	t.Setenv("PATH", dir)
	if got, err := FindRedis(""); err != nil || got != dir+"/redis-server" {
		t.Errorf("got %q (%v), want the one in PATH", got, err)
	}
	t.Setenv(ConsulEnv, "")
	if _, err := FindConsul(); !errors.As(err, &missing) || missing.Env != ConsulEnv {
		t.Errorf("got %v, want the variable that may name it", err)
	}
}

func TestNewestVersionFirst(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/opt/postgresql@9/bin": 9, "/usr/bin": 0} {
		if got := version(path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

func TestCanReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var self *User
	stranger := &User{Name: "stranger", UID: 54321, GID: 54321}
	if !self.CanReach(filepath.Join(dir, "data")) {
		t.Error("this user cannot reach its own directory")
	}
	if stranger.CanReach(filepath.Join(dir, "data")) {
		t.Error("a stranger reaches a private directory")
	}
	if !stranger.CanReach("/data") {
		t.Error("a stranger does not reach the root")
	}
}

// TestAPortIsGivenOnce, to whatever process, although nobody listens on it.
func TestAPortIsGivenOnce(t *testing.T) {
	t.Parallel()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && (reserve(port) || !PortFree(port)) {
		t.Errorf("port %d is given again, or taken", port)
	}
}
