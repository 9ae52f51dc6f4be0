package server_test

import (
	"fmt"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
)

func TestMovesConformance(t *testing.T) {
	t.Parallel()
	directorytest.RunMoves(t, func(t *testing.T) directory.Directory {
		return serve(t, directorytest.NewMemory(), nil).client(t, token.Operator)
	})
}

func TestBadMovesNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := serve(t, withCell(t), nil)
	move := `{"id":"mv_2","tenant":1,"source":"c1","target":"c2","base_epoch":1,"phase":"reserved","wish":"","watch":0,"lease":1,` +
		`"leased_until":"2026-01-01T00:00:00Z","created_at":"2026-01-01T00:00:00Z","changed_at":"2026-01-01T00:00:00Z"}`
	for _, tt := range []struct{ method, path, body, pointer string }{
		{"POST", "/v1/moves", `{"tenant":1}`, "/target"},
		{"POST", "/v1/moves", `{"tenant":1,"target":"c2","colour":"red"}`, "/colour"},
		{"POST", "/v1/moves", `{"tenant":1,"target":"c2","stop_at":"frozen"}`, "/stop_at"},
		{"GET", "/v1/moves?tenant=acme", ``, "query/tenant"},
		{"GET", "/v1/moves?ended=maybe", ``, "query/ended"},
		{"POST", "/v1/moves/mv_1/wish", `{"wish":"sing"}`, "/wish"},
		{"POST", "/v1/moves/lease", `{"holder":"m1"}`, "/ttl_ms"},
		{"POST", "/v1/moves/lease", `{"holder":"m1","ttl_ms":0}`, "/id"},
		{"POST", "/v1/moves/lease", `{"holder":"","ttl_ms":1}`, "/holder"},
		{"POST", "/v1/rehearsals/lease", `{"holder":"m1","ttl_ms":0}`, "/ttl_ms"},
		{"POST", "/v1/rehearsals/lease", `{"holder":"","ttl_ms":1}`, "/holder"},
		{"POST", "/v1/rehearsals/rh_1/end", `{"lease":1}`, "/report"},
		{"POST", "/v1/rehearsals/rh_1/end", `{"lease":1,"report":[]}`, "/report"},
		{"POST", "/v1/moves/mv_1/advance", `{"move":` + move + `,"from":"planned"}`, "/move/id"},
		{"POST", "/v1/moves/mv_2/advance", `{"move":` + move + `,"from":"somewhere"}`, "/from"},
	} {
		got := b.call(t, tt.method, tt.path, tt.body)
		doc := got.problem(t)
		what := fmt.Sprintf("%s %s %.60s", tt.method, tt.path, tt.body)
		if got.status != 400 || len(doc.Errors) == 0 || doc.Errors[0].Pointer != tt.pointer {
			t.Errorf("%s: got %d with %+v, want 400 at %q", what, got.status, doc.Errors, tt.pointer)
		}
	}
	if got := b.call(t, "POST", "/v1/moves/mv_2/advance", `{"move":`+move+`,"from":"planned"}`); got.status != 404 {
		t.Errorf("advance an unknown move: got %d %s", got.status, got.body)
	}
}
