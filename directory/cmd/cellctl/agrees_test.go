package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// agrees COMMAND... runs a command that changes nothing twice, for people and for programs: with
// -o json its answer is one document and nothing else, with the next steps that people are told.
func agrees(ts *testscript.TestScript, _ bool, args []string) {
	_ = ts.Exec(args[0], args[1:]...) // its exit code is the script's matter
	told := []string{}
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if step, ok := strings.CutPrefix(line, "note: next: "); ok {
			told = append(told, strings.TrimSpace(step))
		}
	}
	_ = ts.Exec(args[0], append(slices.Clone(args[1:]), "-o", "json")...)
	answer := ts.ReadFile("stdout")
	var document struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		NextSteps  []string `json:"next_steps"`
	}
	if err := json.Unmarshal([]byte(answer), &document); err != nil || document.APIVersion == "" || document.Kind == "" {
		ts.Fatalf("no document (%v): %s", err, answer)
	}
	if !slices.Equal(document.NextSteps, told) {
		ts.Fatalf("next steps: a program gets %q, a person %q", document.NextSteps, told)
	}
}
