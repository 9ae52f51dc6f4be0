package server

import (
	"net/http"

	"github.com/cellway/cellway/directory"
)

func (s *Server) witness(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Incarnation string             `json:"incarnation"`
		Number      int64              `json:"number"`
		Tenant      directory.TenantID `json:"tenant"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	did, err := s.Directory.Witness(r.Context(), cellID(r), in.Incarnation, in.Number, in.Tenant)
	s.metrics.witnessed(did)
	return answer(w, http.StatusOK, did, err)
}

func (s *Server) abortMoves(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Incarnation string `json:"incarnation"`
		Why         string `json:"why"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	did, err := s.Directory.AbortMoves(r.Context(), cellID(r), in.Incarnation, in.Why)
	return answer(w, http.StatusOK, did, err)
}
