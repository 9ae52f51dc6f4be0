package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func moveID(r *http.Request) directory.MoveID { return directory.MoveID(pathParams(r)["move"]) }

func (s *Server) createMove(w http.ResponseWriter, r *http.Request) error {
	var in directory.NewMove
	if err := read(r, &in); err != nil {
		return err
	}
	m, err := s.Directory.CreateMove(r.Context(), in)
	if in.DryRun {
		return answer(w, http.StatusOK, m, err)
	}
	return answer(w, http.StatusCreated, m, err)
}

func (s *Server) listMoves(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	_, limit := paging(r)
	tenant, _ := strconv.ParseInt(q.Get("tenant"), 10, 64) // the contract has checked it; "" is every tenant
	ended, _ := strconv.ParseBool(q.Get("ended"))
	before := directory.MoveID(q.Get("cursor"))
	list, err := s.Directory.ListMoves(r.Context(), directory.TenantID(tenant), ended, before, limit)
	out := page[directory.Move]{Items: full(list)}
	if err == nil && len(list) == limit {
		out.Next = string(list[limit-1].ID)
	}
	return answer(w, http.StatusOK, out, err)
}

func (s *Server) getMove(w http.ResponseWriter, r *http.Request) error {
	m, err := s.Directory.Move(r.Context(), moveID(r))
	return answer(w, http.StatusOK, m, err)
}

func (s *Server) askMove(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Wish directory.Wish `json:"wish"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	m, err := s.Directory.AskMove(r.Context(), moveID(r), in.Wish)
	return answer(w, http.StatusOK, m, err)
}

func (s *Server) leaseMove(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ID     directory.MoveID `json:"id"`
		Holder string           `json:"holder"`
		TTL    int64            `json:"ttl_ms"` // the contract bounds it
	}
	if err := read(r, &in); err != nil {
		return err
	}
	m, err := s.Directory.LeaseMove(r.Context(), in.ID, in.Holder, time.Duration(in.TTL)*time.Millisecond)
	return answer(w, http.StatusOK, m, err)
}

func (s *Server) restMove(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Lease int64          `json:"lease"`
		Wish  directory.Wish `json:"wish"`
		For   int64          `json:"for_ms"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	said := directory.Move{ID: moveID(r), Lease: in.Lease, Wish: in.Wish}
	return done(w, s.Directory.RestMove(r.Context(), said, time.Duration(in.For)*time.Millisecond))
}

func (s *Server) advanceMove(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Move directory.Move  `json:"move"`
		From directory.Phase `json:"from"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	if in.Move.ID != moveID(r) {
		e := problem.New(problem.Invalid, "the body tells of move %q, the path names %q", in.Move.ID, moveID(r))
		e.Fields = []problem.Field{{Pointer: "/move/id", Detail: "must be the move in the path"}}
		return e
	}
	return done(w, s.Directory.Advance(r.Context(), in.Move, in.From))
}
