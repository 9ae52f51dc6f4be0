package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func (s *Server) addKey(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in directory.Key
	if err := read(r, &in); err != nil {
		return err
	}
	in.Tenant = id
	k, err := s.Directory.AddKey(r.Context(), in)
	return answer(w, http.StatusCreated, k, err)
}

func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	keys, err := s.Directory.ListKeys(r.Context(), id)
	return answer(w, http.StatusOK, page[directory.Key]{Items: full(keys)}, err)
}

func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	return done(w, s.Directory.RevokeKey(r.Context(), id, pathParams(r)["key"]))
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in directory.RevokedToken
	if err := read(r, &in); err != nil {
		return err
	}
	in.Tenant = id
	return done(w, s.Directory.RevokeToken(r.Context(), in))
}

func (s *Server) getCredentials(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, _ := strconv.ParseInt(q.Get("since"), 10, 64) // the contract has checked it
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		e := problem.Wrap(problem.Invalid, err, "wait is not a duration")
		e.Fields = []problem.Field{{Pointer: "query/wait", Detail: "must be a duration such as 25s"}}
		return e
	}
	since := directory.Version(n)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.Stopping, cancel)()
	c, err := s.Directory.Credentials(ctx, since, min(wait, longestWait))
	if errors.Is(err, context.Canceled) && s.Stopping.Err() != nil && r.Context().Err() == nil {
		c, err = s.Directory.Credentials(r.Context(), since, 0)
	}
	return answer(w, http.StatusOK, c, err)
}
