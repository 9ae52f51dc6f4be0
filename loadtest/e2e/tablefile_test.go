package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cellway/cellway/loadtest"
)

// TestBadTableFileIsRefused: a router whose copy of the table is damaged says so
// and does not route by it. It uses the copy before that one; without any it is
// not ready, rather than wrong, until the directory answers.
func TestBadTableFileIsRefused(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "table")
	nobody := "http://" + freeAddr(t)
	tenant := w.tenant(t, w.cell(1))

	// Two runs that saw a change each: a last good copy, and one before it.
	for range 2 {
		r := w.newEdge(t, w.State().Directory.URL, file).start()
		for _, who := range []*loadtest.Tenant{tenant, w.tenant(t, w.cell(2))} {
			if err := r.of(who).AwaitRoute(within(t, patience)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.end(syscall.SIGTERM); err != nil {
			t.Fatalf("router did not stop in good order: %v\n%s", err, r.logged())
		}
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no table file after an orderly stop: %v", err)
	}

	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 0x20
	for name, bad := range map[string][]byte{"cut": good[:len(good)*2/3], "flipped": flipped, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			write(t, file, bad)
			r := w.newEdge(t, nobody, file).start()
			wantStatus(t, ask(t, r.of(tenant), loadtest.Request{Path: "/v1/projects"}), http.StatusOK)
			if !strings.Contains(r.logged(), "refused") || !strings.Contains(r.logged(), file) {
				t.Errorf("no log line names the refused file:\n%s", r.logged())
			}
			r.kill()
			if name == "empty" {
				return
			}
			if left, err := os.ReadFile(file + ".prev"); err != nil || len(left) == 0 {
				t.Errorf("the good copy is gone: %v", err)
			}
		})
	}

	lonely := filepath.Join(dir, "lonely")
	write(t, lonely, flipped)
	r := w.newEdge(t, nobody, lonely)
	r.launch()
	until(t, "the router to refuse the file", func() bool { return strings.Contains(r.logged(), "refused") })
	select {
	case <-r.done: // to stop is in order too
	default:
		if a, err := r.of(tenant).Do(within(t, patience), loadtest.Request{Path: "/v1/projects"}); err == nil && a.Status < 500 {
			t.Errorf("a router without a table answers %s", a)
		}
		r.kill()
	}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
