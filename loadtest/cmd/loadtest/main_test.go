package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/cellway/cellway/infra/run"
)

// A wrong command line starts nothing, says what would be right, and exits with 2.
func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"blast --only kiled":             `no fault "kiled" (did you mean killed?); there are none, killed, `,
		"blast --only herd,everything":   `no fault "everything"; there are none, `,
		"blast --only killed,":           `no fault ""`,
		"blast --only":                   "flag needs an argument: --only",
		"peers --from x.json --quick":    "--from measures nothing: --quick cannot go with it",
		"peers --from x.json -o yaml":    "must be table or json",
		"bench-peers --from x --rounds=": `"--rounds"`,
	} {
		cmd := root()
		cmd.SetArgs(strings.Fields(line))
		err := cmd.ExecuteContext(t.Context())
		exit, ok := errors.AsType[*run.Exit](err)
		if !ok || exit.Code != usageCode || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; see loadtest ") {
			t.Errorf("%s: got %v, want %q and a hint, with exit code %d", line, err, want, usageCode)
		}
	}
}
