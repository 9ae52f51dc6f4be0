package server

import (
	"net/http"
	"strconv"

	"github.com/cellway/cellway/directory"
)

func (s *Server) takeClaim(w http.ResponseWriter, r *http.Request) error {
	var in directory.Claim
	if err := read(r, &in); err != nil {
		return err
	}
	return done(w, s.Directory.TakeClaim(r.Context(), in))
}

func (s *Server) findClaim(w http.ResponseWriter, r *http.Request) error {
	at := pathParams(r)
	c, err := s.Directory.FindClaim(r.Context(), at["kind"], at["name"])
	return answer(w, http.StatusOK, c, err)
}

func (s *Server) releaseClaim(w http.ResponseWriter, r *http.Request) error {
	at := pathParams(r)
	c := directory.Claim{Kind: at["kind"], Name: at["name"], Tenant: claimant(r)}
	return done(w, s.Directory.ReleaseClaim(r.Context(), c))
}

// claimant is who gives a name back.
func claimant(r *http.Request) directory.TenantID {
	owner, _ := strconv.ParseInt(r.URL.Query().Get("tenant"), 10, 64) // the contract has checked it
	return directory.TenantID(owner)
}
