package chaos

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// TestWrongKey gives the comparison each fault that it is there to find. What is lost, Redis may
// have been allowed to lose; what is alien never is.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	ever, hour := word{value: "k1-7"}, word{value: "k1-7", from: at(3600), to: at(3601)}
	over, deleted := word{value: "k1-7", from: at(-10), to: at(-9)}, word{}
	for name, tt := range map[string]struct {
		word word
		v    keeper.Value
		want string // "", "lost" or "alien"
	}{
		"as written":             {ever, keeper.Value{Text: "k1-7"}, ""},
		"with its time":          {hour, keeper.Value{Text: "k1-7", Ends: at(3600)}, ""},
		"its time is over":       {over, keeper.Value{}, ""},
		"about to end":           {word{value: "k1-7", from: at(0), to: at(1)}, keeper.Value{}, ""},
		"deleted":                {deleted, keeper.Value{}, ""},
		"gone":                   {ever, keeper.Value{}, "lost"},
		"gone before its time":   {hour, keeper.Value{}, "lost"},
		"set back":               {ever, keeper.Value{Text: "k1-5"}, "lost"},
		"back after it was over": {over, keeper.Value{Text: "k1-5"}, "lost"},
		"deleted and back":       {deleted, keeper.Value{Text: "k1-5"}, "lost"},
		"does not end":           {hour, keeper.Value{Text: "k1-7"}, "alien"},
		"ends":                   {ever, keeper.Value{Text: "k1-7", Ends: at(3600)}, "alien"},
		"ends too late":          {hour, keeper.Value{Text: "k1-7", Ends: at(3700)}, "alien"},
		"outlives its time":      {over, keeper.Value{Text: "k1-7", Ends: at(60)}, "alien"},
		"another key's":          {ever, keeper.Value{Text: "k2-7"}, "alien"},
		"not written yet":        {ever, keeper.Value{Text: "k1-10"}, "alien"},
	} {
		got := ""
		if what, alien := tt.word.wrong("k1", tt.v, 9, now, now); alien {
			got = "alien"
		} else if what != "" {
			got = "lost"
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestWhatRedisMayLose: a word is forgiven for a Redis that was killed soon after it was told, and for
// a move that a Redis was killed in, or that went on without; for nothing else.
func TestWhatRedisMayLose(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	dead := func(cell directory.CellID, second float64) []death {
		return []death{{cell, at(second), at(second + 0.1)}}
	}
	stays := hop{from: "a", to: "a", began: at(0), over: at(5)}
	moves := hop{from: "a", to: "b", began: at(0), over: at(5)}
	without, aborted := moves, stays
	without.without, aborted.without = true, true
	for name, tt := range map[string]struct {
		hop    hop
		deaths []death
		want   bool // of a word that A's Redis acknowledged at second 3
		limit  bool // of a limit that was known at second 3 and forgotten at 6
	}{
		"nothing died":                    {moves, nil, false, false},
		"killed at once":                  {stays, dead("a", 3), true, true},
		"killed soon after":               {stays, dead("a", 4.5), true, true},
		"killed long after":               {stays, dead("a", 5.5), false, true},
		"killed before":                   {stays, dead("a", 1.5), false, false},
		"another one killed":              {stays, dead("b", 3), false, false},
		"the source's, in the move":       {moves, dead("a", 1), true, false},
		"the target's, in the move":       {moves, dead("b", 1), true, false},
		"the target's, at its end":        {moves, dead("b", 5), true, true},
		"the target's, soon after":        {moves, dead("b", 6.5), true, false},
		"the target's, long after":        {moves, dead("b", 7.5), false, false},
		"the source's, long before":       {moves, dead("a", -3), false, false},
		"a third one, in the move":        {moves, dead("c", 3), false, false},
		"the move went on without":        {without, nil, true, true},
		"a move that was aborted, and so": {aborted, nil, false, false},
	} {
		if got := tt.hop.mayLose(at(3), "a", tt.deaths); got != tt.want {
			t.Errorf("%s: a key may be lost: %v", name, got)
		}
		if got := tt.hop.mayLoseLimit(loadtest.GivenBack{Since: at(3), At: at(6)}, tt.deaths); got != tt.limit {
			t.Errorf("%s: a limit may be lost: %v", name, got)
		}
	}
}

func TestHeardOtherwise(t *testing.T) {
	t.Parallel()
	events := []loadtest.Event{{Seq: 1, EventID: "a"}, {Seq: 2, EventID: "b"}}
	for name, tt := range map[string]struct {
		heard []string
		ok    bool
	}{
		"all": {[]string{"a", "b"}, true}, "too few": {[]string{"a"}, false}, "others": {[]string{"a", "c"}, false}, "more": {[]string{"a", "b", "c"}, false},
	} {
		if what := otherwise(tt.heard, events); (what == "") != tt.ok {
			t.Errorf("%s: got %q", name, what)
		}
	}
}
