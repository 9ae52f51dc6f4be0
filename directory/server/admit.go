package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// admit finds out who calls and whether they may: Unauthenticated without a valid
// token, Forbidden with one of another kind. The caller is the audit's actor.
func (s *Server) admit(r *http.Request, allow []token.Kind) (*http.Request, token.Claims, error) {
	if len(allow) == 0 {
		return r, token.Claims{}, nil
	}
	bearer, ok := bearerToken(r)
	if !ok {
		return nil, token.Claims{}, problem.New(problem.Unauthenticated, "a bearer token is needed")
	}
	claims, err := s.Keys.Verify(bearer, s.Now())
	if err != nil {
		return nil, claims, err
	}
	telemetry.RequestFrom(r.Context()).UserHash = telemetry.HashUser(claims.Subject)
	if !slices.Contains(allow, claims.Kind) {
		return nil, claims, problem.New(problem.Forbidden, "a token of kind %s may not do this", claims.Kind)
	}
	return r.WithContext(directory.WithActor(r.Context(), claims.Subject)), claims, nil
}

// bearerToken reads the Authorization header; its scheme has no case.
func bearerToken(r *http.Request) (string, bool) {
	scheme, bearer, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	bearer = strings.TrimSpace(bearer)
	return bearer, ok && strings.EqualFold(scheme, "bearer") && bearer != ""
}
