package benchmove

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCutoversFromAccessLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	// An attempt that was aborted, then a move that was not; and what is not a step.
	logs := map[string]string{
		"c1": `{"time":"2026-11-23T03:00:00.9Z","msg":"request","path":"/transfer/v1/freeze","status":204,"duration":900}
not JSON
{"time":"2026-11-23T03:00:01Z","msg":"request","path":"/transfer/v1/freeze","status":503,"duration":1}
{"time":"2026-11-23T03:00:01.1Z","msg":"request","path":"/transfer/v1/freeze","status":204,"duration":3000000}
{"time":"2026-11-23T03:00:01.15Z","msg":"request","path":"/transfer/v1/rows","status":200,"duration":2500000}
{"time":"2026-11-23T03:00:01.11Z","msg":"request","path":"/v1/projects","status":201,"duration":1}
`,
		"c2": `{"time":"2026-11-23T02:00:00Z","msg":"request","path":"/transfer/v1/activate","status":204,"duration":77}
{"time":"2026-11-23T03:00:01.05Z","msg":"request","path":"/transfer/v1/pull","status":200,"duration":99}
{"time":"2026-11-23T03:00:01.2Z","msg":"request","path":"/transfer/v1/pull","status":200,"duration":4000000}
{"time":"2026-11-23T03:00:01.3Z","msg":"request","path":"/transfer/v1/activate","status":204,"duration":1000000}
`,
		"directory": `{"time":"2026-11-23T03:00:01.08Z","msg":"request","path":"/v1/moves/mv_1/advance","status":204,"duration":2000000}
{"time":"2026-11-23T03:00:01.25Z","msg":"request","path":"/v1/moves/mv_1/advance","status":204,"duration":5000000}
{"time":"2026-11-23T03:00:01.35Z","msg":"request","path":"/v1/moves/mv_1/advance","status":204,"duration":6}
`,
	}
	for name, text := range logs {
		if err := os.WriteFile(filepath.Join(dir, "log", name+".log"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps, err := readSteps(dir, time.Date(2026, 11, 23, 2, 30, 0, 0, time.UTC), "c1", "c2", "directory")
	if err != nil {
		t.Fatal(err)
	}
	got := cutovers(steps)
	want := cutover{freeze: 3 * time.Millisecond, round: 100 * time.Millisecond, rows: 50 * time.Millisecond, record: 2 * time.Millisecond, decide: 5 * time.Millisecond, activate: time.Millisecond}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want one: %+v", got, want)
	}
	if _, err := readSteps(dir, time.Time{}, "c3"); err == nil {
		t.Error("no error for a log that is not there")
	}
}
