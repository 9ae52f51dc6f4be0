package chaos

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// TestWentWithout: that keys were left behind is the word of the target's log, or, where that may have lost it, of
// what its Redis lacks. Keys that came are not to be lost, whatever the log says.
func TestWentWithout(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	dead := func(cell directory.CellID, second float64) []death {
		return []death{{cell, at(second), at(second + 0.01)}}
	}
	m := directory.Move{ID: "mv_2", Source: "a", Target: "b"}
	all, part, older := keeper.Receipt{Move: "mv_2", All: true}, keeper.Receipt{Move: "mv_2"}, keeper.Receipt{Move: "mv_1", All: true}
	for name, tt := range map[string]struct {
		came   keeper.Receipt
		told   bool
		fallen []death
		want   bool
	}{
		"all came":                              {all, false, nil, false},
		"all came, too late to be waited for":   {all, true, nil, false},
		"all came, and the target was killed":   {all, false, dead("b", 0.5), false},
		"it said so":                            {part, true, nil, true},
		"it said so, nothing came":              {older, true, nil, true},
		"nobody said so":                        {part, false, nil, false},
		"nobody said so of nothing":             {keeper.Receipt{}, false, nil, false},
		"killed in the pause":                   {part, false, dead("b", 0.5), true},
		"killed in the pause, nothing came":     {older, false, dead("b", 0.5), true},
		"killed right after":                    {part, false, dead("b", 1.5), true},
		"killed when the line was written":      {part, false, dead("b", 2.5), false},
		"killed before":                         {part, false, dead("b", -0.5), false},
		"another cell, in the pause":            {part, false, dead("a", 0.5), false},
		"its redis, postgres or worker instead": {part, false, dead("b-worker", 0.5), false},
	} {
		k := kept{came: arrival{"b", tt.came}}
		if got := k.wentWithout(m, tt.told, at(0), at(1), tt.fallen); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// TestMayBeBack: keys that were removed are forgiven where Redis was killed soon after that, since the last look.
func TestMayBeBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	dead := func(cell directory.CellID, second float64) []death {
		return []death{{cell, at(second), at(second + 0.01)}}
	}
	for name, tt := range map[string]struct {
		purged time.Time
		deaths []death
		want   bool
	}{
		"nothing died":        {at(3), nil, false},
		"soon after":          {at(3), dead("a", 4), true},
		"in the round before": {at(-1), dead("a", 0.5), true},
		"long after":          {at(3), dead("a", 5.5), false},
		"another one":         {at(3), dead("b", 4), false},
		"seen already":        {at(-2), dead("a", -1), false},
		"never removed":       {time.Unix(0, 0), dead("a", 4), false},
	} {
		if got := mayBeBack("a", tt.purged, at(0), tt.deaths); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	const lost, other = `{"msg":"` + saysWithout + `","tenant":7,"move":"mv_1","final":true}` + "\n",
		`{"msg":"` + saysWithout + `","tenant":8,"move":"mv_2","final":false}` + "\n" + `{"msg":"request","tenant":9}` + "\n"
	path := filepath.Join(t.TempDir(), "c1.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := int64(0)
	for _, tt := range []struct {
		write string
		want  map[directory.MoveID]bool
	}{
		{other + lost, map[directory.MoveID]bool{"mv_1": true}},
		{other, map[directory.MoveID]bool{}},
		{lost[:20], map[directory.MoveID]bool{}},
		{lost[20:], map[directory.MoveID]bool{"mv_1": true}},
		{lost[:20] + "\n" + other, map[directory.MoveID]bool{}}, // of one that was killed
	} {
		if _, err := f.WriteString(tt.write); err != nil {
			t.Fatal(err)
		}
		got := map[directory.MoveID]bool{}
		if read, err = readLog(path, read, got); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("after %q: got %v, %v, want %v", tt.write, got, err, tt.want)
		}
	}
}
