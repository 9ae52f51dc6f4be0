package server

import (
	"net"
	"net/http"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// signupActor is who the audit says created a tenant that signed itself up.
const signupActor = "signup"

func (s *Server) signup(w http.ResponseWriter, r *http.Request) error {
	if !s.Signup {
		return problem.New(problem.Forbidden, "sign-up is closed")
	}
	if wait := s.signups.take(address(r)); wait > 0 {
		e := problem.New(problem.RateLimited, "too many sign-ups from this address")
		e.RetryAfter = wait
		return e
	}
	// The contract lets in what the public may choose: no hosts, no cell.
	var in directory.NewTenant
	if err := read(r, &in); err != nil {
		return err
	}
	t, err := s.Directory.CreateTenant(directory.WithActor(r.Context(), signupActor), in)
	if err != nil {
		return err
	}
	signed, err := s.tenantToken(t.ID, signupActor, s.TokenTTL)
	return answer(w, http.StatusCreated, struct {
		Tenant directory.Tenant `json:"tenant"`
		tokenReply
	}{t, signed}, err)
}

// address is where a sign-up comes from: what the router in front of us saw, in
// the last element of X-Forwarded-For, else our own peer. The directory's
// listener belongs on a network that only routers and operators reach.
func address(r *http.Request) string {
	forwarded := r.Header.Values("X-Forwarded-For")
	if len(forwarded) > 0 {
		hops := strings.Split(forwarded[len(forwarded)-1], ",")
		if ip := net.ParseIP(strings.TrimSpace(hops[len(hops)-1])); ip != nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
