package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// tenantID is the id in the path of an operation that changes a tenant; a slug
// may have changed hands since the caller looked.
func tenantID(r *http.Request) (directory.TenantID, error) {
	id, err := directory.ParseTenantID(pathParams(r)["ref"])
	if err != nil {
		e := problem.Wrap(problem.Invalid, err, "a tenant is changed by its id, not by its slug")
		e.Fields = []problem.Field{{Pointer: "path/ref", Detail: "must be a tenant's id"}}
		return 0, e
	}
	return id, nil
}

func (s *Server) createTenant(w http.ResponseWriter, r *http.Request) error {
	var in directory.NewTenant
	if err := read(r, &in); err != nil {
		return err
	}
	t, err := s.create(r.Context(), in)
	return answer(w, http.StatusCreated, t, err)
}

// create creates a tenant, unless its caller has created too many, and counts what
// is refused for that.
func (s *Server) create(ctx context.Context, in directory.NewTenant) (directory.Tenant, error) {
	if wait := s.creates.take(directory.Actor(ctx)); wait > 0 {
		return directory.Tenant{}, s.tooMany("caller_rate", wait, "one caller creates at most %d tenants a minute", s.TenantsPerMinute)
	}
	t, err := s.Directory.CreateTenant(ctx, in)
	if p, ok := errors.AsType[*problem.Error](err); ok && p.Extra[directory.QuotaMember] != "" {
		s.metrics.refused.WithLabelValues(p.Extra[directory.QuotaMember] + "_quota").Inc()
	}
	return t, err
}

// tooMany refuses a tenant that comes too soon after others.
func (s *Server) tooMany(reason string, wait time.Duration, format string, most int) error {
	s.metrics.refused.WithLabelValues(reason).Inc()
	e := problem.New(problem.RateLimited, format, most)
	e.RetryAfter = wait
	return e
}

func (s *Server) listTenants(w http.ResponseWriter, r *http.Request) error {
	after, limit := paging(r)
	of := directory.TenantFilter{Cell: listedCell(r), Name: r.URL.Query().Get("name")}
	list, err := s.Directory.ListTenants(r.Context(), of, directory.TenantID(after), limit)
	out := page[directory.Tenant]{Items: full(list)}
	if len(list) == limit {
		out.Next = list[limit-1].ID.String()
	}
	return answer(w, http.StatusOK, out, err)
}

// listedCell is whose tenants are asked for; "" is everybody's.
func listedCell(r *http.Request) directory.CellID { return directory.CellID(r.URL.Query().Get("cell")) }

// paging reads cursor and limit, which the contract has checked and defaulted.
func paging(r *http.Request) (after int64, limit int) {
	q := r.URL.Query()
	after, _ = strconv.ParseInt(q.Get("cursor"), 10, 64) // "" begins at 0
	limit, _ = strconv.Atoi(q.Get("limit"))
	return after, limit
}

func (s *Server) getTenant(w http.ResponseWriter, r *http.Request) error {
	t, err := s.Directory.Tenant(r.Context(), pathParams(r)["ref"])
	return answer(w, http.StatusOK, t, err)
}

func (s *Server) updateTenant(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in directory.Change
	if err := read(r, &in); err != nil {
		return err
	}
	t, err := s.Directory.UpdateTenant(r.Context(), id, in)
	return answer(w, http.StatusOK, t, err)
}

func (s *Server) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	return done(w, s.Directory.DeleteTenant(r.Context(), id))
}

func (s *Server) placeTenant(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in directory.Placement
	if err := read(r, &in); err != nil {
		return err
	}
	if in.Tenant != id {
		e := problem.New(problem.Invalid, "the body places tenant %d, the path names %d", in.Tenant, id)
		e.Fields = []problem.Field{{Pointer: "/tenant", Detail: "must be the tenant in the path"}}
		return e
	}
	return done(w, s.Directory.Place(r.Context(), in))
}

// A tokenReply carries a new token.
type tokenReply struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (s *Server) issueToken(w http.ResponseWriter, r *http.Request) error {
	id, err := tenantID(r)
	if err != nil {
		return err
	}
	var in struct {
		Subject string `json:"subject"`
		TTL     int64  `json:"ttl_seconds"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	t, err := s.Directory.Tenant(r.Context(), id.String())
	if err != nil {
		return err
	}
	if t.Placement.State == directory.Deleted {
		return problem.New(problem.Conflict, "tenant %d is deleted", id)
	}
	out, err := s.tenantToken(id, in.Subject, time.Duration(in.TTL)*time.Second)
	return answer(w, http.StatusCreated, out, err)
}

func (s *Server) tenantToken(id directory.TenantID, subject string, ttl time.Duration) (tokenReply, error) {
	now := s.Now()
	signed, err := s.Keys.For(token.Tenants).Issue(token.Claims{Kind: token.Tenant, Tenant: id, Subject: subject}, now, ttl)
	return tokenReply{Token: signed, ExpiresAt: now.Add(ttl).UTC().Truncate(time.Second)}, err
}
