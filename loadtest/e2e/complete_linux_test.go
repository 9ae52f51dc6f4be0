package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// TestWhatIsFoundWhileCompleteAsksIsHeard: somebody sits at the question of `cellctl move complete` when a comparison
// finds that the copies differ. The answer comes too late: nothing is purged, the exit code is 4.
func TestWhatIsFoundWhileCompleteAsksIsHeard(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(1))
	project(t, tenant, "kept")
	m := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: w.cell(2)})
	wantPhase(t, m, directory.Watching)

	asks := w.atTerminal(t, "move", "complete", string(m.ID))
	asks.awaits("Type its name to go on: ")
	kept, err := pgx.Connect(t.Context(), w.State().Cells[0].DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close(t.Context())
	damage := fmt.Sprintf(`SELECT set_config('cell.tenant', '%[1]d', false); UPDATE projects.projects SET name = 'damaged' WHERE tenant_id = %[1]d`, tenant.ID)
	if _, err := kept.Exec(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	w.operator(t, http.MethodPost, "/v1/moves/"+string(m.ID)+"/wish", map[string]directory.Wish{"wish": directory.Verify}, nil)
	until(t, "the copies to be compared", func() bool {
		w.operator(t, http.MethodGet, "/v1/moves/"+string(m.ID), nil, &m)
		return m.Wish != directory.Verify
	})
	asks.types(tenant.Slug)
	if code := asks.exits(); code != 4 || !strings.Contains(asks.said(), "its copies differ") || !strings.Contains(asks.said(), "find out which side is damaged") {
		t.Errorf("exit code %d:\n%s", code, asks.said())
	}
	if m = w.settled(t, m.ID); m.Phase != directory.Watching || m.Wish != directory.Proceed {
		t.Errorf("the move is %s, its wish is %q", m.Phase, m.Wish)
	}
	var rows int
	if err := kept.QueryRow(t.Context(), `SELECT count(*) FROM projects.projects WHERE tenant_id = $1`, int64(tenant.ID)).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the kept copy has %d rows, %v, want 1", rows, err)
	}
}

// A session is cellctl at a terminal.
type session struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File // the terminal's other end

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes what is said on the side.
func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (s *session) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// atTerminal starts cellctl with a terminal as its input.
func (w *world) atTerminal(t *testing.T, args ...string) *session {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	keys, terminal := openTerminal(t)
	s := &session{t: t, keys: keys, cmd: exec.CommandContext(t.Context(), filepath.Join(bin, "cellctl"), args...)}
	st := w.State()
	s.cmd.Env = append(os.Environ(), "CELLCTL_ADDR="+st.Directory.URL, "CELLCTL_TOKEN="+st.OperatorToken)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = terminal, io.Discard, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *session) awaits(question string) {
	s.t.Helper()
	until(s.t, "the question", func() bool { return strings.Contains(s.said(), question) })
}

func (s *session) types(line string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.keys, line); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) exits() int {
	s.t.Helper()
	err := s.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return 0
}

// openTerminal makes a terminal and returns the end at which keys are typed, and the one of who reads them.
func openTerminal(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	var number, locked int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number} {
		if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, keys.Fd(), request, uintptr(unsafe.Pointer(arg))); failed != 0 {
			t.Fatal(failed)
		}
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keys, terminal
}
