package figure

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Size is v, or its default where it is not set: short for a quick look, else whole.
func Size[T comparable](v T, quick bool, whole, short T) T {
	var unset T
	switch {
	case v != unset:
		return v
	case quick:
		return short
	}
	return whole
}

// Check refuses names that are no figure's, and a source that is no source tree.
func Check(only, names []string, source string) error {
	for _, name := range only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("no figure %q; there are %v", name, names)
		}
	}
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		return fmt.Errorf("a benchmark needs the source tree: %w", err)
	}
	return nil
}
