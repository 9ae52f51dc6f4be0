package transfer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// TestEachPathIsForWhoNeedsIt: a mover drives a move, a target asks its source, each at the cell that
// the token is for, and nobody else asks a cell anything.
func TestEachPathIsForWhoNeedsIt(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	for path, kind := range map[string]token.Kind{
		"reserve": token.Mover, "activate": token.Mover, "retire": token.Mover, "release": token.Mover, "discard": token.Mover,
		"arm": token.Mover, "freeze": token.Mover, "disarm": token.Mover, "fence": token.Mover, "pull": token.Mover,
		"received": token.Mover, "purge": token.Mover, "forget": token.Mover, "preflight": token.Mover, "verify": token.Mover,
		"digest": token.Mover, "unchanged": token.Mover, "kept": token.Mover,
		"rows": token.Cell, "keys": token.Cell,
	} {
		for _, by := range []token.Kind{token.Router, token.Cell, token.Mover, token.Operator, "service"} {
			for _, cell := range []directory.CellID{"a", "b", ""} {
				got := a.status(t, path, a.bearer(t, token.Claims{Kind: by, Subject: "a", Cell: cell, Move: "mv_1"}), `{}`)
				if want := map[bool]int{true: 400, false: 403}[by == kind && cell == "a"]; got != want { // admitted, it is Invalid
					t.Errorf("%s as %s for cell %q: got %d, want %d", path, by, cell, got, want)
				}
			}
		}
		another, err := token.ParseKeys(token.NewKey("k1"))
		must(t, err)
		forged, err := another.Issue(token.Claims{Kind: kind, Cell: "a"}, time.Now(), time.Hour)
		must(t, err)
		for what, bearer := range map[string]string{"no": "", "no signed": "cwt1.k1.e30.AAAA", "another's": forged} {
			if got := a.status(t, path, bearer, `{}`); got != 401 {
				t.Errorf("%s with %s token: got %d, want 401", path, what, got)
			}
		}
	}

	ctx := t.Context() // of two moves out of a, the target of one has no word for the other
	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	body := fmt.Sprintf(`{"move":%q,"tenant":%d,"base_epoch":%d,"source":"a","target":"b"}`, there.ID, there.Tenant, there.Base)
	for _, path := range []string{"rows", "keys"} {
		for move, want := range map[directory.MoveID]int{there.ID: 200, "mv_2": 403, "": 403} {
			if got := a.status(t, path, a.bearer(t, token.Claims{Kind: token.Cell, Subject: "b", Cell: "a", Move: move}), body); got != want {
				t.Errorf("%s with a token for move %q: got %d, want %d", path, move, got, want)
			}
		}
	}
}

// bearer is a token that a mover has signed.
func (c *keyed) bearer(t *testing.T, said token.Claims) string {
	t.Helper()
	bearer, err := c.keys.Issue(said, time.Now(), time.Hour)
	must(t, err)
	return bearer
}

// status is how the cell answers who shows a token.
func (c *keyed) status(t *testing.T, path, bearer, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+transfer.Prefix+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, resp.Body.Close())
	return resp.StatusCode
}
