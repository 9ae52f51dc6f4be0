package transfer

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// A heldTo is, in the context of a target's request, the move that it may ask for.
type heldTo struct{}

// guard lets those of a kind in: a mover drives the move, a target asks its source for that
// move. Both show what a mover has signed for this cell.
func (s *Server) guard(kind token.Kind, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		c, err := s.Keys.Verify(bearer, time.Now())
		switch {
		case err != nil:
		case c.Kind != kind:
			err = problem.New(problem.Forbidden, "a token of kind %s may not do this", c.Kind)
		case c.Cell != s.Steps.cell:
			err = problem.New(problem.Forbidden, "the token is for cell %q", c.Cell)
		case kind == token.Cell:
			r = r.WithContext(context.WithValue(r.Context(), heldTo{}, c.Move))
		}
		if err != nil {
			telemetry.Problem(w, r, "cell", err)
			return
		}
		next.ServeHTTP(w, r)
	})
}
