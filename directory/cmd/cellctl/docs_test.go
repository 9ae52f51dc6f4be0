package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// inCode is where documents name a command: alone in code, or as a line of it.
var inCode = regexp.MustCompile("(?m)`(?:bin/)?cellctl(\\s[^`]+)`|^ *cellctl( .+)$")

// TestDocumentsNameRealCommands: what a document tells an operator to type exists.
func TestDocumentsNameRealCommands(t *testing.T) {
	t.Parallel()
	const top = "../../.."
	documents := []string{filepath.Join(top, "README.md"), filepath.Join(top, "CONTRIBUTING.md"), filepath.Join(top, "CHANGELOG.md")}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		documents = append(documents, found...)
	}
	named := 0
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inCode.FindAllStringSubmatch(string(text), -1) {
			for _, command := range strings.Split(m[1]+m[2], "cellctl ") {
				named++
				if wrong := unknown(new(app).root(), strings.Fields(command)); wrong != "" {
					t.Errorf("%s names %q: there is no %s", path, strings.TrimSpace(m[0]), wrong)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("found %d commands in the documents, want them all", named)
	}
}

// unknown is the first of words that is no command below cmd and no flag of it, "" where
// there is none. "a | b" is one command or the other, or the end of what is cellctl's.
func unknown(cmd *cobra.Command, words []string) string {
	group := cmd
	for i, word := range words {
		switch {
		case strings.HasPrefix(word, "#"):
			return ""
		case word == "|":
			cmd = group
		case strings.HasPrefix(word, "-") && word != "-":
			if !hasFlag(cmd, word) {
				return "flag " + word
			}
		case cmd.HasSubCommands():
			at := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
			switch {
			case at >= 0:
				group, cmd = cmd, cmd.Commands()[at]
			case i > 0 && words[i-1] == "|":
				return ""
			default:
				return "command " + word
			}
		}
	}
	return ""
}

func hasFlag(cmd *cobra.Command, word string) bool {
	cmd.InheritedFlags() // are among its own from then on
	if name, long := strings.CutPrefix(word, "--"); long {
		return name == "help" || cmd.Flags().Lookup(name) != nil
	}
	return cmd.Flags().ShorthandLookup(word[1:2]) != nil
}
