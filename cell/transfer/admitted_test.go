package transfer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory/token"
)

// TestEachPathIsForWhoNeedsIt: a mover drives a move, a target asks its source, and nobody else
// asks a cell anything.
func TestEachPathIsForWhoNeedsIt(t *testing.T) {
	t.Parallel()
	a, _ := keyedPair(t)
	for path, kind := range map[string]token.Kind{
		"reserve": token.Mover, "activate": token.Mover, "retire": token.Mover, "release": token.Mover, "discard": token.Mover,
		"arm": token.Mover, "freeze": token.Mover, "disarm": token.Mover, "fence": token.Mover, "pull": token.Mover,
		"received": token.Mover, "purge": token.Mover, "forget": token.Mover, "preflight": token.Mover, "verify": token.Mover,
		"digest": token.Mover, "unchanged": token.Mover, "kept": token.Mover,
		"rows": token.Cell, "keys": token.Cell,
	} {
		for _, by := range []token.Kind{token.Router, token.Cell, token.Mover, token.Operator, "service"} {
			got := a.status(t, path, a.of(by, "b"), `{}`) // admitted, it is Invalid
			if want := map[bool]int{true: 400, false: 403}[by == kind]; got != want {
				t.Errorf("%s as %s: got %d, want %d", path, by, got, want)
			}
		}
		for _, bearer := range []string{"", "cwt1.k1.e30.AAAA"} {
			if got := a.status(t, path, bearer, `{}`); got != 401 {
				t.Errorf("%s with the token %q: got %d, want 401", path, bearer, got)
			}
		}
	}
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
