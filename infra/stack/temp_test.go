package stack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestNothingOfATemporaryStackStays: neither its directory nor what lies elsewhere
// because Postgres's user could not reach that.
func TestNothingOfATemporaryStackStays(t *testing.T) {
	t.Parallel()
	dir, err := TempDir(t.TempDir(), "stack-")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("got mode %v, %v, want one that others may pass through", info.Mode(), err)
	}
	there := filepath.Join(elsewhere(dir), "c1-postgres")
	if err := os.MkdirAll(there, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveDir(dir); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, elsewhere(dir)} {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", d, err)
		}
	}
}
