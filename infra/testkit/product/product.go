// Package product gives tests the product's own programs.
package product

import (
	"fmt"
	"os"
	"os/exec"
)

// In is where the commands of these parts of the product ("router", "cell") are: BIN_DIR,
// which make test fills, else dir, into which they are built.
func In(dir string, parts ...string) (string, error) {
	if filled := os.Getenv("BIN_DIR"); filled != "" {
		return filled, nil
	}
	args := []string{"build", "-o", dir + "/"}
	for _, part := range parts {
		args = append(args, "github.com/cellway/cellway/"+part+"/cmd/...")
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil { //nolint:gosec // tests' own words
		return "", fmt.Errorf("build the product: %w: %s", err, out)
	}
	return dir, nil
}
