package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// A mention finds out whether a request that keeps to the contract is about the cell that makes it.
type mention func(s *Server, r *http.Request, self directory.CellID) (bool, error)

// mentions has every operation that cells may call: one that is taken over must not speak
// for another. Those that only read, and name no cell, are nil.
var mentions = map[string]mention{
	"addCell":   inBody,
	"heartbeat": inPath, "witness": inPath, "abortMoves": inPath, "reportLoad": inPath,
	"listTenants": inQuery, "listDeletions": inQuery, "tellDeletion": inPath,
	"takeClaim": claimTaken, "releaseClaim": claimReleased,
	"getTenant": nil, "listMoves": nil, "findClaim": nil,
}

// onlyItself is Forbidden where a cell's request is about another cell, or a router
// acknowledges as another router.
func (s *Server) onlyItself(r *http.Request, operation string, by token.Claims) error {
	if by.Kind == token.Router && operation == "getChanges" {
		return onlyAs(by.Subject, acknowledging(r))
	}
	about := mentions[operation]
	if by.Kind != token.Cell || about == nil {
		return nil
	}
	ok, err := about(s, r, directory.CellID(by.Subject))
	if err == nil && (!ok || by.Subject == "") {
		err = problem.New(problem.Forbidden, "cell %s may not do this for another cell or its tenants", by.Subject)
	}
	return err
}

// onlyAs is Forbidden where a router names another one than its token does. A token whose
// subject ends with * is for all routers whose names begin so: those of a deployment that
// share it.
func onlyAs(subject, router string) error {
	prefix, shared := strings.CutSuffix(subject, "*")
	if router == "" || router == subject || shared && prefix != "" && strings.HasPrefix(router, prefix) {
		return nil
	}
	return problem.New(problem.Forbidden, "router %s may not do this as router %s", subject, router)
}

func inPath(_ *Server, r *http.Request, self directory.CellID) (bool, error) {
	return cellID(r) == self, nil
}

func inQuery(_ *Server, r *http.Request, self directory.CellID) (bool, error) {
	return listedCell(r) == self, nil
}

func inBody(_ *Server, r *http.Request, self directory.CellID) (bool, error) {
	var in directory.Cell
	err := peek(r, &in)
	return in.ID == self, err
}

func claimTaken(s *Server, r *http.Request, self directory.CellID) (bool, error) {
	var in directory.Claim
	if err := peek(r, &in); err != nil {
		return false, err
	}
	return s.has(r.Context(), self, in.Tenant)
}

func claimReleased(s *Server, r *http.Request, self directory.CellID) (bool, error) {
	return s.has(r.Context(), self, claimant(r))
}

// peek is read that leaves the body to be read again.
func peek(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body) // bounded, and read before by validate
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	err = read(r, v)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err
}

// has reports whether a tenant is on the cell, or on its way there or away: until the move
// has ended.
func (s *Server) has(ctx context.Context, self directory.CellID, t directory.TenantID) (bool, error) {
	tenant, err := s.Directory.Tenant(ctx, t.String())
	if errors.Is(err, problem.NotFound) {
		return false, nil // which tenants there are is not for cells to try out
	}
	if err != nil || tenant.Placement.Cell == self {
		return err == nil, err
	}
	moves, err := s.Directory.ListMoves(ctx, t, false, "", 100)
	return slices.ContainsFunc(moves, func(m directory.Move) bool { return m.Source == self || m.Target == self }), err
}
