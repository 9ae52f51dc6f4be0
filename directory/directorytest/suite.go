package directorytest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Actor is who acts in the suite. An implementation that does not take the actor
// from the context (HTTP: it is the token's subject) must be opened as Actor.
const Actor = "conformance"

// Run holds a Directory to the comments of the contract, but for its Moves: see
// RunMoves. open gives a fresh, empty one; it is called once per subtest, and
// subtests run in parallel.
func Run(t *testing.T, open func(t *testing.T) directory.Directory) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *suite)
	}{
		{"AddCell", testAddCell},
		{"AddCellAgain", testAddCellAgain},
		{"AddCellUnheard", testAddCellUnheard},
		{"Heartbeat", testHeartbeat},
		{"ListCells", testListCells},
		{"SetCellState", testSetCellState},
		{"RemoveCell", testRemoveCell},
		{"CreateTenant", testCreateTenant},
		{"CreateTenantAllOrNothing", testCreateAllOrNothing},
		{"Policy", testPolicy},
		{"Apart", testApart},
		{"FindTenant", testFindTenant},
		{"ListTenants", testListTenants},
		{"FindTenants", testFindTenants},
		{"UpdateTenant", testUpdateTenant},
		{"UpdateHosts", testUpdateHosts},
		{"DeleteTenant", testDeleteTenant},
		{"Deletions", testDeletions},
		{"Place", testPlace},
		{"PlaceSuspended", testPlaceSuspended},
		{"Load", testLoad},
		{"Claims", testClaims},
		{"Keys", testKeys},
		{"RevokeToken", testRevokeToken},
		{"Credentials", testCredentials},
		{"CredentialsWait", testCredentialsWait},
		{"Snapshot", testSnapshot},
		{"Chain", testChain},
		{"Changes", testChanges},
		{"ChangesWait", testChangesWait},
		{"Watermark", testWatermark},
		{"Lift", testLift},
		{"Audit", testAudit},
		{"Context", testContext},
		{"RaceSlug", testRaceSlug},
		{"RaceClaim", testRaceClaim},
		{"RaceHosts", testRaceHosts},
		{"RaceEpoch", testRaceEpoch},
		{"CredentialsChain", testCredentialsChain},
		{"RaceCapacity", testRaceCapacity},
		{"RaceRemoveCell", testRaceRemoveCell},
		{"Follow", testFollow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			t.Cleanup(cancel)
			tt.test(t, &suite{Directory: open(t), ctx: directory.WithActor(ctx, Actor)})
		})
	}
}

// A suite is one fresh Directory under test.
type suite struct {
	directory.Directory
	ctx context.Context
}

// cell is a cell as a test adds it: ready, and as large as nobody fills.
func cell(id directory.CellID) directory.Cell {
	return directory.Cell{ID: id, Address: "http://" + string(id) + ".test", Capacity: 1000, Incarnation: "db-" + string(id)}
}

func (s *suite) add(t *testing.T, c directory.Cell) directory.Cell {
	t.Helper()
	got, err := s.AddCell(s.ctx, c)
	if err != nil {
		t.Fatalf("add cell %s: %v", c.ID, err)
	}
	return got
}

func (s *suite) create(t *testing.T, n directory.NewTenant) directory.Tenant {
	t.Helper()
	got, err := s.CreateTenant(s.ctx, n)
	if err != nil {
		t.Fatalf("create tenant %s: %v", n.Slug, err)
	}
	return got
}

func (s *suite) tenant(t *testing.T, id directory.TenantID) directory.Tenant {
	t.Helper()
	got, err := s.Tenant(s.ctx, id.String())
	if err != nil {
		t.Fatalf("find tenant %d: %v", id, err)
	}
	return got
}

func (s *suite) snapshot(t *testing.T) directory.Update {
	t.Helper()
	u, err := s.Snapshot(s.ctx)
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return u
}

func (s *suite) audit(t *testing.T, subject string) []directory.AuditEntry {
	t.Helper()
	lines, err := s.Audit(s.ctx, subject, 0, 1000)
	if err != nil {
		t.Fatalf("audit: %v", err)
	}
	return lines
}

// expect runs a step and compares what it did to the version and to the audit.
func (s *suite) expect(t *testing.T, what string, versions, lines int, step func() error) {
	t.Helper()
	v, n := s.snapshot(t).Version, len(s.audit(t, ""))
	if err := step(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got := int(s.snapshot(t).Version - v); got != versions {
		t.Errorf("%s: got %d new versions, want %d", what, got, versions)
	}
	if got := len(s.audit(t, "")) - n; got != lines {
		t.Errorf("%s: got %d new audit lines, want %d", what, got, lines)
	}
}

// refuse runs a step that must fail with kind and change nothing.
func (s *suite) refuse(t *testing.T, what string, kind problem.Kind, step func() error) {
	t.Helper()
	before, n := text(s.snapshot(t)), len(s.audit(t, ""))
	wantKind(t, what, step(), kind)
	if after := text(s.snapshot(t)); after != before {
		t.Errorf("%s: refused, and the table changed:\n%s\n%s", what, before, after)
	}
	if got := len(s.audit(t, "")); got != n {
		t.Errorf("%s: refused, and the audit has %d new lines", what, got-n)
	}
}

func wantKind(t *testing.T, what string, err error, kind problem.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got error %v, want kind %s", what, err, kind)
	}
}

func wantEqual[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := text(got), text(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// decode reads the JSON of an audit line.
func decode[T any](t *testing.T, s string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("decode %q: %v", s, err)
	}
	return v
}
