package server

import (
	"net/http"

	"github.com/cellway/cellway/directory"
)

func (s *Server) listDeletions(w http.ResponseWriter, r *http.Request) error {
	after, limit := paging(r)
	list, err := s.Directory.ListDeletions(r.Context(), listedCell(r), directory.TenantID(after), limit)
	out := page[directory.Deletion]{Items: full(list)}
	if len(list) == limit {
		out.Next = list[limit-1].Tenant.String()
	}
	return answer(w, http.StatusOK, out, err)
}

func (s *Server) tellDeletion(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in struct {
		Incarnation string          `json:"incarnation"`
		Epoch       directory.Epoch `json:"epoch"`
		Purged      bool            `json:"purged"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	return done(w, s.Directory.TellDeletion(r.Context(), cellID(r), in.Incarnation, id, in.Epoch, in.Purged))
}

func (s *Server) hurryDeletion(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	return done(w, s.Directory.HurryDeletion(r.Context(), id))
}
