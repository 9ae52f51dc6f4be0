package main

import (
	"os/exec"
	"testing"
)

// TestQuotedPathsAreTheirOwnWord: a shell that is given what the guide prints sees the path as it is.
func TestQuotedPathsAreTheirOwnWord(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/tmp/c", "/tmp/a b", "/tmp/$HOME", "/tmp/`id`", `/tmp/it's "so"\`, "/tmp/a;b&c(d)", "/tmp/*"} {
		got, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote(path)).Output()
		if err != nil || string(got) != path {
			t.Errorf("%s: got %q (%v), want it as it is", path, got, err)
		}
	}
}
