package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cellway/cellway/infra/local"
)

// A runDir holds the files of one test binary's servers. Its lock ends with the
// process, so that a later run can tell what a killed one left behind.
type runDir struct {
	path string
	lock *local.FileLock
}

// base is this user's directory for all test binaries.
func base() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("cellway-testkit-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the user of Postgres must get through
		return "", fmt.Errorf("make directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is not a directory of this user", dir)
	}
	return dir, nil
}

// newRunDir makes a directory for this process and removes those of dead ones.
func newRunDir() (*runDir, error) {
	root, err := base()
	if err != nil {
		return nil, err
	}
	all, err := local.Lock(filepath.Join(root, "lock"), true)
	if err != nil {
		return nil, err
	}
	defer all.Unlock()
	if err := sweep(root); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(root, "run-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // the user of Postgres must get through
		return nil, fmt.Errorf("make directory: %w", err)
	}
	lock, err := local.Lock(filepath.Join(path, "lock"), false)
	if err != nil {
		return nil, err
	}
	return &runDir{path, lock}, nil
}

// sweep removes the directories whose process has gone.
func sweep(root string) error {
	old, err := filepath.Glob(filepath.Join(root, "run-*"))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, path := range old {
		lock, err := local.Lock(filepath.Join(path, "lock"), false)
		if errors.Is(err, local.ErrLocked) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		// A server that is ending may still write; what it leaves goes next time.
		_ = os.RemoveAll(path)
		_ = lock.Unlock()
	}
	return nil
}

func (d *runDir) remove() error {
	defer d.lock.Unlock()
	return os.RemoveAll(d.path)
}

// sub makes a directory for one server.
func (d *runDir) sub(pattern string) (string, error) {
	path, err := os.MkdirTemp(d.path, pattern)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return path, nil
}
