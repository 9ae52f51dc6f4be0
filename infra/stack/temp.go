package stack

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
)

// TempDir makes a fresh directory for a stack that is removed again ([RemoveDir]).
// The user that Postgres runs as may pass through it, so that all of the stack's
// data is in it.
func TempDir(parent, pattern string) (string, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err == nil {
		err = os.Chmod(dir, 0o711) //nolint:gosec // see above
	}
	if err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	return dir, nil
}

// RemoveDir removes the data of a stack that has stopped, wherever it was put.
func RemoveDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("remove data directory: %w", err)
	}
	return errors.Join(os.RemoveAll(elsewhere(dir)), os.RemoveAll(dir))
}

// elsewhere is where the Postgres servers of a stack have their data if their user
// cannot reach the stack's directory, an absolute path.
func elsewhere(dir string) string {
	sum := fnv.New64a()
	sum.Write([]byte(dir))
	return filepath.Join("/var/tmp", fmt.Sprintf("cellway-%d-%x", os.Getuid(), sum.Sum64()))
}
