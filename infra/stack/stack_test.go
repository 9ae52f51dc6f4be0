package stack

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/local"
)

func TestStackLife(t *testing.T) {
	t.Parallel()
	var log buffer
	opts := Options{Dir: dataDir(t), BinDir: binDir(t), Cells: 2, Routers: 2, Log: &log}
	s := begin(t, opts)
	first := s.State()

	t.Run("everything runs and is recorded", func(t *testing.T) {
		var got []string
		for _, p := range first.Processes {
			if !p.Alive() {
				t.Errorf("%s does not run", p.Name)
			}
			got = append(got, p.Name)
		}
		slices.Sort(got)
		want := []string{
			"c1", "c1-postgres", "c1-redis", "c1-worker", "c2", "c2-postgres", "c2-redis", "c2-worker",
			"directory", "directory-postgres", "mover-1", "router-1", "router-2",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, name := range want {
			if !strings.Contains(log.String(), name+" ") {
				t.Errorf("progress does not show %s", name)
			}
		}
	})
	t.Run("its file says the same, to its owner only", func(t *testing.T) {
		loaded, err := Load(opts.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.Endpoint != first.Endpoint || len(loaded.Cells) != 2 || loaded.OperatorToken != "token-of-operator" {
			t.Errorf("got %+v, want %+v", loaded, first)
		}
		for _, name := range []string{"stack.json", "plan.json"} {
			info, err := os.Stat(filepath.Join(opts.Dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v (%v), want 0600", name, info.Mode(), err)
			}
		}
	})
	t.Run("a second start is refused and says who is there", func(t *testing.T) {
		_, err := Start(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), "in use by process") {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("a cell is added", func(t *testing.T) {
		cell, err := s.AddCell(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if cell.ID != "c3" || len(s.State().Cells) != 3 {
			t.Errorf("got %s of %d, want c3 of 3", cell.ID, len(s.State().Cells))
		}
	})
	t.Run("the next start finds data, ports and secrets", func(t *testing.T) {
		run(t, first.Cells[0].DatabaseURL, "CREATE TABLE kept (id int)")
		mustStop(t, s)
		for _, p := range s.State().Processes {
			t.Errorf("%s is still recorded", p.Name)
		}
		again := begin(t, opts).State()
		if again.Cells[0] != first.Cells[0] || again.Directory != first.Directory || again.TokenKeys != first.TokenKeys {
			t.Errorf("got %+v, want %+v", again.Cells[0], first.Cells[0])
		}
		run(t, again.Cells[0].DatabaseURL, "SELECT id FROM kept")
	})
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, Options{Dir: dataDir(t), BinDir: binDir(t), Cells: 1, Routers: 1})
	st := s.State()
	mustStop(t, s)
	for _, p := range st.Processes {
		if p.Alive() {
			t.Errorf("%s still runs", p.Name)
		}
	}
	for _, name := range []string{"lock", "stack.json"} {
		if _, err := os.Stat(filepath.Join(st.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want no such file", name, err)
		}
	}
	if _, err := Load(st.Dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
	if _, open := <-s.Failed(); open {
		t.Error("a stop that was asked for is reported as a failure")
	}
	if err := s.StartProcess(t.Context(), "c1"); err == nil {
		t.Error("a process was started after the stop")
	}
}

func TestCrashIsReportedAndHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	var log buffer
	s := begin(t, Options{Dir: dataDir(t), BinDir: binDir(t), Cells: 1, Routers: 1, Log: &log})
	victim := process(t, s, "c1")
	if err := victim.Signal(syscall.SIGKILL); err != nil { // not through the stack: nobody asked
		t.Fatal(err)
	}
	select {
	case err := <-s.Failed():
		if !strings.Contains(err.Error(), "c1 ended") {
			t.Errorf("got %v, want the name of the child", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the crash was not reported")
	}
	if !strings.Contains(log.String(), "! c1 ended") {
		t.Errorf("progress does not show it:\n%s", log.String())
	}
	for _, name := range []string{"c1-worker", "c1-postgres", "router-1", "directory"} {
		if !process(t, s, name).Alive() {
			t.Errorf("%s ended too", name)
		}
	}
	if err := s.StartProcess(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if process(t, s, "c1").PID == victim.PID {
		t.Error("the record still has the dead process")
	}
}

func TestKillAndStopAreNoFailures(t *testing.T) {
	t.Parallel()
	s := begin(t, Options{Dir: dataDir(t), BinDir: binDir(t), Cells: 1, Routers: 1})
	for _, end := range []func() error{
		func() error { return s.Kill("c1") },
		func() error { return s.StopProcess(t.Context(), "c1-worker") },
		func() error { return s.Kill("c1-postgres") },
	} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Kill("c1"); err == nil {
		t.Error("killed what does not run")
	}
	for _, name := range []string{"c1-postgres", "c1", "c1-worker", "c1-redis"} {
		if err := s.StartProcess(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := s.StartProcess(t.Context(), "c9"); err == nil {
		t.Error("started what nobody knows")
	}
	mustStop(t, s)
	for err := range s.Failed() {
		t.Errorf("reported: %v", err)
	}
}

func TestStartThatFails(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		name string
		opts Options
		want []string
	}{
		// It listens before it ends: where that was long enough to seem ready, its worker is the one that ends.
		{"a child that dies shows the end of its log", Options{Env: []string{"CELL_FAIL=no table projects"}}, []string{"ended (exit status 1)", "/log/c1", "cell: no table projects"}},
		{"a port that is taken", Options{Port: taken.Addr().(*net.TCPAddr).Port}, []string{"in use", "--port"}},
		{"binaries that are not built", Options{BinDir: dir}, []string{`"`, dir, "make build"}},
		{"no Postgres", Options{PostgresBin: dir}, []string{"apt-get install postgresql", local.PostgresBinEnv}},
		{"no Redis", Options{RedisServer: dir + "/none"}, []string{"apt-get install redis-server", local.RedisServerEnv}},
		{"no cells", Options{Cells: -1}, []string{"at least one cell"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Dir = dir
			if tt.opts.BinDir == "" {
				tt.opts.BinDir = binDir(t)
			}
			if tt.opts.Cells == 0 {
				tt.opts.Cells = 1
			}
			s, err := Start(t.Context(), tt.opts)
			if err == nil {
				mustStop(t, s)
				t.Fatal("it started")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
			if _, err := Load(dir); !errors.Is(err, ErrNotRunning) {
				t.Errorf("got %v, want nothing left", err)
			}
		})
	}
}

func process(t *testing.T, s *Stack, name string) Process {
	t.Helper()
	for _, p := range s.State().Processes {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return Process{}
}

func run(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Error(err)
	}
}

// A buffer may be written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
