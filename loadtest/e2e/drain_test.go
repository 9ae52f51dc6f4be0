package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cellway/cellway/directory"
)

// A drainPlan is what this story reads of cellctl's answer.
type drainPlan struct {
	Confirm int
	Moves   []struct {
		Slug    string
		To      directory.CellID
		Phase   directory.Phase
		PauseNS int64 `json:"pause_ns"`
	}
	Refusals []struct{ Slug, Why string }
	Cells    []struct {
		Cell  directory.CellID
		State directory.CellState
	}
}

// cellctl runs the operators' tool as an operator does, and reads its answer.
func (w *world) cellctl(t *testing.T, args ...string) drainPlan {
	t.Helper()
	out := w.says(t, append(args, "-o", "json")...)
	var p drainPlan
	if err := json.Unmarshal(out, &p); err != nil && len(out) > 0 {
		t.Fatalf("cellctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return p
}

// says is what the operators' tool writes.
func (w *world) says(t *testing.T, args ...string) []byte {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, 3*patience), filepath.Join(bin, "cellctl"), args...)
	state := w.State()
	cmd.Env = append(cmd.Environ(), "CELLCTL_ADDR="+state.Directory.URL, "CELLCTL_TOKEN="+state.OperatorToken)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cellctl %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// TestCellIsDrained: a cell whose tenants write all the time is drained by one
// command; every tenant is elsewhere then, no request has gone wrong, every
// acknowledged write and every event is there once; the cell is drained, and once
// the ways back are closed it can be removed.
func TestCellIsDrained(t *testing.T) {
	w := rough.alone(t)
	added, err := w.AddCell(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	cell := directory.CellID(added.ID)
	c := w.work(t, 4, cell)
	c.more(t, cell, 50)

	plan := w.cellctl(t, "cell", "drain", added.ID)
	if len(plan.Moves) != len(c.tenants) || len(plan.Refusals) != 0 {
		t.Fatalf("plan: got %d moves, refusals %+v, want %d moves", len(plan.Moves), plan.Refusals, len(c.tenants))
	}
	done := w.cellctl(t, "cell", "drain", added.ID, "--yes", "--confirm", strconv.Itoa(plan.Confirm))
	for _, m := range done.Moves {
		if m.Phase != directory.Watching || m.To == cell {
			t.Errorf("move of %s: got %s to %s, want watching elsewhere", m.Slug, m.Phase, m.To)
		}
		t.Logf("moved %s to %s, pause %d ns", m.Slug, m.To, m.PauseNS)
	}
	for _, tenant := range c.tenants {
		var now directory.Tenant
		w.operator(t, http.MethodGet, tenantPath(tenant.ID), nil, &now)
		if now.Placement.Cell == cell {
			t.Errorf("tenant %s is still on %s", now.Slug, cell)
		}
	}
	var drained directory.Cell
	w.operator(t, http.MethodGet, "/v1/cells/"+added.ID, nil, &drained)
	if drained.State != directory.Drained || drained.Tenants != 0 {
		t.Errorf("the cell is %s with %d tenants, want drained with none", drained.State, drained.Tenants)
	}

	c.more(t, cell, 50)
	c.rest(t)
	c.wantNoFaults(t, cell)
	w.cellctl(t, "cell", "drain", added.ID, "--yes", "--complete")
	w.cellctl(t, "cell", "remove", added.ID, "--yes")
	for _, name := range []string{added.ID, added.ID + "-worker"} {
		if err := w.StopProcess(within(t, patience), name); err != nil {
			t.Fatal(err)
		}
	}
}
