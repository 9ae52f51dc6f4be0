package loadtest

import (
	"fmt"
	"os"
	"path/filepath"
)

// Programs gives self, or this program where it is "", and the whole path of binDir, where
// "" is the directory of self: processes have working directories of their own.
func Programs(self, binDir string) (string, string, error) {
	var err error
	if self == "" {
		if self, err = os.Executable(); err != nil {
			return "", "", fmt.Errorf("find the binaries: %w", err)
		}
	}
	if binDir == "" {
		binDir = filepath.Dir(self)
	}
	binDir, err = filepath.Abs(binDir)
	return self, binDir, err
}
