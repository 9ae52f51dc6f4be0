package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// A dryRun is what this story reads of cellctl's answer.
type dryRun struct {
	Reaches  directory.Phase `json:"reaches"`
	Rows     int64           `json:"rows"`
	Error    string          `json:"error"`
	Steps    []struct{ Cell, Step string }
	Findings []struct {
		Cell  directory.CellID
		Table string
		Fix   string
	}
	Forecast struct{ Duration int64 }
}

// TestADryRunChangesNothing: who asks what a move would do is told, by both cells, also what is
// against it, and the tenant's fences and record stay as they are.
func TestADryRunChangesNothing(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	tenant := w.tenant(t, from)
	project(t, tenant, "plans")
	before := w.whereabouts(t, tenant.ID)

	got, code := w.dryRun(t, tenant.ID, to)
	if code != 0 || got.Reaches != directory.Watching || got.Rows < 2 || got.Forecast.Duration == 0 || len(got.Findings) != 0 {
		t.Errorf("got exit %d, %+v", code, got)
	}
	for _, want := range []string{"preflight", "reserve", "arm", "pull", "verify", "freeze", "activate", "retire"} {
		if !slices.ContainsFunc(got.Steps, func(s struct{ Cell, Step string }) bool { return s.Step == want }) {
			t.Errorf("no step %s in %+v", want, got.Steps)
		}
	}

	w.inCell(t, 2, `CREATE TABLE public.nobodys (tenant_id bigint)`)
	defer w.inCell(t, 2, `DROP TABLE public.nobodys`)
	got, code = w.dryRun(t, tenant.ID, to)
	if code != 4 || got.Reaches != directory.Aborted || len(got.Findings) == 0 || got.Error == "" {
		t.Fatalf("with an unsafe table: got exit %d, %+v", code, got)
	}
	if f := got.Findings[0]; f.Cell != to || f.Table != "public.nobodys" || f.Fix == "" {
		t.Errorf("got finding %+v", f)
	}

	if after := w.whereabouts(t, tenant.ID); after != before {
		t.Errorf("after two dry runs: got %s, want %s", after, before)
	}
}

// dryRun asks cellctl what the move of a tenant would do.
func (w *world) dryRun(t *testing.T, id directory.TenantID, to directory.CellID) (got dryRun, code int) {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, 3*patience), filepath.Join(bin, "cellctl"), "tenant", "move", id.String(), "--to", string(to), "--dry-run", "-o", "json")
	cmd.Env = []string{"CELLCTL_ADDR=" + w.State().Directory.URL, "CELLCTL_TOKEN=" + w.State().OperatorToken, "HOME=" + t.TempDir()}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("exit %d: %v: %s%s", code, err, out, stderr.String())
	}
	return got, code
}

// whereabouts is a tenant's placement, its moves, and its fence in each cell.
func (w *world) whereabouts(t *testing.T, id directory.TenantID) string {
	t.Helper()
	var tenant directory.Tenant
	w.operator(t, http.MethodGet, tenantPath(id), nil, &tenant)
	var moves struct{ Items []directory.Move }
	w.operator(t, http.MethodGet, "/v1/moves?ended=true&tenant="+id.String(), nil, &moves)
	text := fmt.Sprintf("%+v, %d moves", tenant.Placement, len(moves.Items))
	for _, c := range w.State().Cells {
		db, err := pg.Open(within(t, patience), c.DatabaseURL, 1)
		if err != nil {
			t.Fatal(err)
		}
		var fence string
		const all = `SELECT coalesce(string_agg(f::text, ' '), 'none') FROM cell.fence f WHERE tenant_id = $1`
		err = db.QueryRow(within(t, patience), all, int64(id)).Scan(&fence)
		db.Close()
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(", %s: %s", c.ID, fence)
	}
	return text
}

// inCell has the owner of the n-th cell's database execute a statement.
func (w *world) inCell(t *testing.T, n int, sql string) {
	t.Helper()
	db, err := pg.Open(within(t, patience), w.State().Cells[n-1].DatabaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(within(t, patience), sql); err != nil {
		t.Fatal(err)
	}
}
