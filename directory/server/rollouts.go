package server

import (
	"net/http"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// rollouts is the directory's, NotFound where it has none.
func (s *Server) rollouts() (directory.Rollouts, error) {
	if s.Rollouts == nil {
		return nil, problem.New(problem.NotFound, "this directory keeps no roll-outs")
	}
	return s.Rollouts, nil
}

func rolloutID(r *http.Request) directory.RolloutID {
	return directory.RolloutID(pathParams(r)["rollout"])
}

func (s *Server) createRollout(w http.ResponseWriter, r *http.Request) error {
	d, err := s.rollouts()
	if err != nil {
		return err
	}
	var in directory.NewRollout
	if err := read(r, &in); err != nil {
		return err
	}
	out, err := d.CreateRollout(r.Context(), in)
	if in.DryRun {
		return answer(w, http.StatusOK, out, err)
	}
	return answer(w, http.StatusCreated, out, err)
}

func (s *Server) listRollouts(w http.ResponseWriter, r *http.Request) error {
	d, err := s.rollouts()
	if err != nil {
		return err
	}
	_, limit := paging(r)
	list, err := d.ListRollouts(r.Context(), limit)
	return answer(w, http.StatusOK, page[directory.Rollout]{Items: full(list)}, err)
}

func (s *Server) getRollout(w http.ResponseWriter, r *http.Request) error {
	d, err := s.rollouts()
	if err != nil {
		return err
	}
	out, err := d.Rollout(r.Context(), rolloutID(r))
	return answer(w, http.StatusOK, out, err)
}

func (s *Server) askRollout(w http.ResponseWriter, r *http.Request) error {
	d, err := s.rollouts()
	if err != nil {
		return err
	}
	var in struct {
		Wish directory.RolloutWish `json:"wish"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	out, err := d.AskRollout(r.Context(), rolloutID(r), in.Wish)
	return answer(w, http.StatusOK, out, err)
}
