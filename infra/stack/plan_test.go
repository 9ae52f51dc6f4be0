package stack

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTokensOfBeforeAreNotUsed: a stack that is started again after an update keeps its
// keys, and makes tokens as they are now.
func TestTokensOfBeforeAreNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const before = `{"token_keys":"k","assertion_keys":"a","passwords":{},"control_tokens":{"router-1":"a service's"},"ports":{}}`
	if err := os.WriteFile(filepath.Join(dir, "plan.json"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPlan(dir)
	if err != nil || p.TokenKeys != "k" || p.Tokens == nil || len(p.Tokens) > 0 {
		t.Errorf("got keys %q and tokens %v, %v", p.TokenKeys, p.Tokens, err)
	}
}
