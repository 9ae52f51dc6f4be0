package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Policy is what the edge refuses. The zero Policy refuses nothing. It is read
// from one YAML file; a key that is not known is an error.
type Policy struct {
	// Trusted are the hops, such as balancers, whose X-Forwarded-For and Forwarded
	// count, and which have no limit of their own: CIDR prefixes or addresses.
	Trusted []string `yaml:"trusted"`
	// Clients limits each address (of IPv6 each /64).
	Clients Clients `yaml:"clients"`
	// Tiers are the limits of one tenant: "default" is of all that Tenants does not name.
	Tiers map[string]Tier `yaml:"tiers"`
	// Tenants names the tier of tenants, by id, that are not in "default".
	Tenants map[directory.TenantID]string `yaml:"tenants"`
	// Routes are classes of requests. Of those that match, the longest prefix counts.
	Routes []Route `yaml:"routes"`
	// Issuers are whose OIDC tokens count.
	Issuers []Issuer `yaml:"issuers"`
	// Contract is what requests are held against where a route, or Mode, says so.
	Contract Contract `yaml:"contract"`
	// WAF are rules that know attacks.
	WAF WAF `yaml:"waf"`
	// Signup is what sign-ups are held against: no contract, as the directory has its own.
	Signup Looks `yaml:"signup"`

	empty bool // the file says nothing, not even {}
}

// Clients are the limits of one client address.
type Clients struct {
	Rate        `yaml:",inline"`
	Connections int `yaml:"connections"` // at once; 0: any
	Concurrent  int `yaml:"concurrent"`  // requests at once; 0: any
}

// A Tier is the limits of one tenant.
type Tier struct {
	Rate       `yaml:",inline"`
	Concurrent int `yaml:"concurrent"` // requests at once at one router; 0: any
}

// A Rate allows Requests in each Window, and Burst (Requests where it is 0) at
// once. Requests 0 is no limit.
type Rate struct {
	Requests int           `yaml:"requests"`
	Window   time.Duration `yaml:"window"`
	Burst    int           `yaml:"burst"`
}

// A Route is a class of requests and what holds for it alone.
type Route struct {
	Name    string   `yaml:"name"`    // in RateLimit headers and metrics
	Prefix  string   `yaml:"prefix"`  // of the path, without /t/{slug}
	Methods []string `yaml:"methods"` // empty: all
	Rate    `yaml:",inline"`
	Auth    string `yaml:"auth"`     // closed (or ""), or open: a token counts for none while its issuer's keys are not to be had
	MaxBody int64  `yaml:"max_body"` // bytes, at most the router's own; 0: that
	Looks   `yaml:",inline"`
}

// Load reads and checks a policy file, and the files that it names. A file that does
// not speak of the WAF has it detect.
func Load(path string) (Policy, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	p, err := Parse(b)
	if err == nil {
		p.WAF.Mode = p.WAF.Mode.or(Detect)
		err = p.read(filepath.Dir(path))
	}
	if err != nil {
		return p, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// Parse reads and checks a policy.
func Parse(b []byte) (Policy, error) {
	var p Policy
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return p, fmt.Errorf("%s", strings.Join(strings.Fields(err.Error()), " ")) // one line
	}
	var says any
	p.empty = yaml.Unmarshal(b, &says) == nil && says == nil
	return p, p.Validate()
}

// Validate reports the first thing that is wrong with a policy.
func (p *Policy) Validate() error {
	if _, err := prefixes(p.Trusted); err != nil {
		return err
	}
	if err := p.Clients.validate("clients"); err != nil {
		return err
	}
	if p.Clients.Connections < 0 || p.Clients.Concurrent < 0 {
		return bad("clients: connections and concurrent must not be negative")
	}
	for name, t := range p.Tiers {
		if err := t.validate("tiers." + name); err != nil {
			return err
		}
		if t.Concurrent < 0 {
			return bad("tiers.%s: concurrent must not be negative", name)
		}
	}
	for id, tier := range p.Tenants {
		if _, ok := p.Tiers[tier]; !ok || id <= 0 {
			return bad("tenants.%d: no tier %q", id, tier)
		}
	}
	names := map[string]bool{"default": true}
	for i, r := range p.Routes {
		if err := r.validate(); err != nil {
			return bad("routes[%d]: %s", i, err)
		}
		if names[r.Name] {
			return bad("routes[%d]: name %q is there twice", i, r.Name)
		}
		names[r.Name] = true
	}
	if err := p.validateLooks(names); err != nil {
		return err
	}
	issuers := map[string]bool{}
	for i := range p.Issuers {
		if err := p.Issuers[i].validate(); err != nil {
			return bad("issuers[%d]: %s", i, err)
		}
		if name := p.Issuers[i].Issuer; issuers[name] {
			return bad("issuers[%d]: %s is there twice", i, name)
		} else {
			issuers[name] = true
		}
	}
	return nil
}

// burst is how many may come at once.
func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return r.Requests
}

func (r Rate) validate(where string) error {
	switch {
	case r.Requests < 0 || r.Burst < 0 || r.Requests > 1_000_000_000 || r.Burst > 1_000_000_000:
		return bad("%s: requests and burst must be 0 to a thousand million", where)
	case r.Requests == 0 && (r.Window != 0 || r.Burst != 0):
		return bad("%s: window and burst need requests", where)
	case r.Requests > 0 && (r.Window < time.Second || r.Window > 24*time.Hour):
		return bad("%s: window must be 1s to 24h", where)
	case r.Requests > 0 && int64(r.burst()) > int64(longest/r.interval()):
		return bad("%s: so large a burst would take a century to come back", where)
	}
	return nil
}

// longest is the time that an allowance may take to be full again: clocks count in nanoseconds.
const longest = 100 * 365 * 24 * time.Hour

// interval is after how long one more may come.
func (r Rate) interval() time.Duration { return max(1, r.Window/time.Duration(r.Requests)) }

// limit makes r one, nil where r is none.
func (r Rate) limit(id uint32, name string) *limit {
	if r.Requests == 0 {
		return nil
	}
	return &limit{
		id: id, name: name, policy: fmt.Sprintf(`"%s";q=%d;w=%d`, name, r.Requests, seconds(r.Window)), burst: r.burst(),
		interval: r.interval(),
	}
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func (r *Route) validate() error {
	plain := r.Name != "" && len(r.Name) <= 40 && strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
	switch {
	case !plain:
		return bad("name must be 1 to 40 of a-z, 0-9, _ and -")
	case !strings.HasPrefix(r.Prefix, "/"):
		return bad("prefix must begin with /")
	case r.Prefix == "/signup" || strings.HasPrefix(r.Prefix, "/signup/"):
		return bad("sign-up is no tenant's request: no route is asked for it, only what clients and signup have")
	case r.Auth != "" && r.Auth != "closed" && r.Auth != "open":
		return bad("auth must be closed or open")
	case r.MaxBody < 0:
		return bad("max_body must not be negative")
	}
	for _, m := range r.Methods {
		if !slices.Contains(methods, m) {
			return bad("method %q is not served", m)
		}
	}
	return r.Rate.validate("rate")
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil || addr.Zone() != "" {
				return nil, bad("trusted: %q is no address and no prefix", s)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if addr := p.Addr(); addr.Is4In6() { // as some logs have IPv4; peers are compared without
			if p.Bits() < 96 {
				return nil, bad("trusted: %q is of IPv4 in part only", s)
			}
			p = netip.PrefixFrom(addr.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func bad(format string, args ...any) error { return problem.New(problem.Invalid, format, args...) }
