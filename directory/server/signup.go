package server

import (
	"net/http"
	"net/netip"
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
		return s.tooMany("address_rate", wait, "one address signs up at most %d tenants a minute", s.SignupsPerMinute)
	}
	// The contract lets in what the public may choose: no hosts, no cell.
	var in directory.NewTenant
	if err := read(r, &in); err != nil {
		return err
	}
	t, err := s.create(directory.WithActor(r.Context(), signupActor), in)
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
		if ip, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil {
			return network(ip)
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return network(peer.Addr())
}

// network is an address's: of IPv6 the /64, which one client has all of.
func network(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
