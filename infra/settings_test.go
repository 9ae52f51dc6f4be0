package infra_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
)

//go:generate go test -count=1 -run TestSettingsAreDocumented . -update

var update = flag.Bool("update", false, "write docs/SETTINGS.md instead of comparing it")

const aboutSettings = `# Settings

Made by ` + "`make generate`" + ` from what each process says with ` + "`--print-settings`" + `; do not edit.

A process takes its settings from the environment. Each may come from a file instead, which is how secrets come: ` + "`NAME_FILE`" + ` names
the file; space around the value is left out. A variable that begins like a process's and is none of its settings stops the start. An
empty variable stands for the default. ` + "`--print-config`" + ` shows the values in force, without secrets, and where each is from: env, file or default.

Durations are written like ` + "`90s`, `300ms` or `1h30m`" + `. None of the settings is read again while a process runs; the files and
directories that some of them name are, where their meaning says so.
`

// TestSettingsAreDocumented: docs/SETTINGS.md is what the processes themselves say.
func TestSettingsAreDocumented(t *testing.T) {
	if testing.Short() {
		t.Skip("four programs are linked for it")
	}
	t.Parallel()
	want := bytes.NewBufferString(aboutSettings)
	for _, of := range []struct{ name, path string }{
		{"router", "./router/cmd/router"},
		{"cell", "./cell/cmd/cell"},
		{"mover", "./cell/cmd/mover"},
		{"directory", "./directory/cmd/directory"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", "run", of.path, "--print-settings")
		cmd.Dir = ".."
		table, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", of.path, err)
		}
		want.WriteString("\n## " + of.name + "\n\n")
		want.Write(table)
	}
	if strings.Contains(want.String(), "| ? |") {
		t.Errorf("a number has no unit in its tag:\n%s", want)
	}
	const path = "../docs/SETTINGS.md"
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/SETTINGS.md is not what the processes say (%v): make generate", err)
	}
}
