package server

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
)

func rehearsalID(r *http.Request) directory.RehearsalID {
	return directory.RehearsalID(pathParams(r)["rehearsal"])
}

func (s *Server) getRehearsal(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Directory.Rehearsal(r.Context(), rehearsalID(r))
	return answer(w, http.StatusOK, v, err)
}

func (s *Server) leaseRehearsal(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ID     directory.RehearsalID `json:"id"`
		Holder string                `json:"holder"`
		TTL    int64                 `json:"ttl_ms"` // the contract bounds it
	}
	if err := read(r, &in); err != nil {
		return err
	}
	v, err := s.Directory.LeaseRehearsal(r.Context(), in.ID, in.Holder, time.Duration(in.TTL)*time.Millisecond)
	return answer(w, http.StatusOK, v, err)
}

func (s *Server) endRehearsal(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Lease  int64           `json:"lease"`
		Report json.RawMessage `json:"report"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	return done(w, s.Directory.EndRehearsal(r.Context(), directory.Rehearsal{ID: rehearsalID(r), Lease: in.Lease, Report: in.Report}))
}
