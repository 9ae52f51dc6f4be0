package infra_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsNameRealTests: what a document says is shown by a test, is.
func TestDocumentsNameRealTests(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "git", "-C", "..", "grep", "-hoE", "^func (Test|Fuzz|Benchmark)[A-Za-z0-9_]+", "--", "*_test.go").Output()
	if err != nil {
		t.Skipf("this is no git checkout: %v", err)
	}
	exists := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		exists[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]+)`")
	docs, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "--", "*.md", ":!CHANGELOG.md").Output() // that one tells of what was
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.Lines(string(docs)) {
		doc = strings.TrimSpace(doc)
		text, err := os.ReadFile("../" + doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			if !exists[m[1]] {
				t.Errorf("%s names %s, and there is no such test", doc, m[1])
			}
		}
	}
}
