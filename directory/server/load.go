package server

import (
	"net/http"

	"github.com/cellway/cellway/directory"
)

func (s *Server) reportLoad(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Incarnation string                 `json:"incarnation"`
		Tenants     []directory.TenantLoad `json:"tenants"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	return done(w, s.Directory.ReportLoad(r.Context(), cellID(r), in.Incarnation, in.Tenants))
}

func (s *Server) getLoad(w http.ResponseWriter, r *http.Request) error {
	loads, err := s.Directory.CellLoad(r.Context(), cellID(r))
	return answer(w, http.StatusOK, page[directory.TenantLoad]{Items: full(loads)}, err)
}
