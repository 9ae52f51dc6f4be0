package main

import (
	"slices"
	"testing"
)

// TestWhatFollowsAsksWhereThisHasAsked: a command that is copied, or read from next_steps,
// must not run against another context.
func TestWhatFollowsAsksWhereThisHasAsked(t *testing.T) {
	t.Parallel()
	a, _, _ := quiet()
	if got := a.there(); got == nil || len(got) != 0 {
		t.Errorf("nothing: got %v, want an empty list that is not null", got)
	}
	if got := a.there("cellctl cell list"); !slices.Equal(got, []string{"cellctl cell list"}) {
		t.Errorf("without a flag: got %q", got)
	}
	a.flags.context, a.flags.addr, a.flags.token = "my prod", "http://127.0.0.1:7000", "secret"
	want := []string{"cellctl --context='my prod' --addr=http://127.0.0.1:7000 cell list"}
	for _, from := range []string{"cellctl cell list", want[0]} {
		if got := a.there(from); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", from, got, want)
		}
	}
}
