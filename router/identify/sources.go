package identify

import (
	"net/netip"
	"strings"
	"unsafe"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// The names by which a request says its tenant outside the host.
const (
	Header     = "X-Tenant" // the slug
	Cookie     = "tenant"   // the slug
	PathPrefix = "/t/"      // the slug follows, then "/" or the end
)

// A Source is one place of a request that may name its tenant.
type Source struct {
	Name string // for errors, logs and explain
	// find is the name, or a zero Ref where the source is not present. A source
	// that is present and not valid is an error.
	find func(c *Chain, h *Head) (Ref, error)
}

// Sources is the chain. The order only says which source is reported as the one
// that was used: all that are present must agree.
var Sources = []Source{
	{"token", fromToken},
	{"host", fromHost},
	{"path", fromPath},
	{"header", fromHeader},
	{"cookie", fromCookie},
}

// fromToken reads a bearer token or API key of ours. Other schemes, and bearers
// that do not look like ours, name no tenant: whether that is enough is the router's AUTH.
func fromToken(c *Chain, h *Head) (Ref, error) {
	if h.bearer.count == 0 {
		return Ref{}, nil
	}
	if h.bearer.count > 1 {
		return Ref{}, invalid("header/Authorization", "is there more than once")
	}
	scheme, bearer, _ := strings.Cut(h.bearer.value, " ")
	bearer = strings.TrimLeft(bearer, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Ref{}, nil
	}
	if token.IsAPIKey(bearer) {
		return c.fromKey(bearer, h)
	}
	if !token.Ours(bearer) {
		return c.fromOther(bearer, h)
	}
	claims, err := c.verify(bearer, h.recalls)
	if err != nil {
		return Ref{}, err
	}
	if claims.Kind != token.Tenant || claims.Tenant <= 0 {
		return Ref{}, problem.New(problem.Unauthenticated, "token is not a tenant's")
	}
	if c.Ring != nil && c.Ring.Revoked(claims.ID) {
		return Ref{}, errRevoked
	}
	h.kept = true
	h.know(claims)
	return Ref{ID: claims.Tenant}, nil
}

var (
	errRevoked = problem.New(problem.Unauthenticated, "token is revoked")
	errNoKeys  = problem.New(problem.Unauthenticated, "API keys are not taken here")
	errUnasked = problem.New(problem.Unauthenticated, "token was not verified yet") // of Recall
)

// fromKey reads an API key: what it says is what the directory recorded of it.
func (c *Chain) fromKey(key string, h *Head) (Ref, error) {
	if c.Ring == nil {
		return Ref{}, errNoKeys
	}
	tenant, id, err := c.Ring.Check(key, c.now())
	if err != nil {
		return Ref{}, err
	}
	h.kept, h.key = true, true
	copy(h.subject[copy(h.subject[:], keySubjectIs):], id) // id is a part of the request
	subject := unsafe.String(&h.subject[0], keySubject)
	h.know(token.Claims{ID: subject[len(keySubjectIs):], Kind: token.Tenant, Tenant: tenant, Subject: subject})
	return Ref{ID: tenant}, nil
}

// The subject of an API key is keySubjectIs and the key's id.
const (
	keySubjectIs = "key/"
	keySubject   = len(keySubjectIs) + token.KeyIDLen
)

// fromOther reads a bearer that is none of ours, if somebody knows it.
func (c *Chain) fromOther(bearer string, h *Head) (Ref, error) {
	if c.Others == nil {
		return Ref{}, nil
	}
	b, err := c.ask(bearer, h)
	if err != nil || !b.Known {
		return Ref{}, err
	}
	h.kept, h.waived = true, b.Waived
	if b.Waived {
		return Ref{}, nil
	}
	if b.Tenant == 0 && !IsSlug(b.Slug) {
		return Ref{}, problem.New(problem.Unauthenticated, "token names no tenant")
	}
	h.know(token.Claims{Kind: token.Tenant, Tenant: b.Tenant, Subject: b.Subject, ExpiresAt: b.Expires})
	return Ref{ID: b.Tenant, Slug: b.Slug}, nil
}

// ask asks the verifier of others' bearers.
func (c *Chain) ask(bearer string, h *Head) (Bearer, error) {
	if !h.recalls {
		return c.Others.Verify(bearer, h.Method, h.Path, c.now())
	}
	b, sure := c.Others.Recall(bearer, c.now())
	if !sure {
		return Bearer{}, errUnasked
	}
	return b, nil
}

func fromHost(c *Chain, h *Head) (Ref, error) {
	host, err := CanonicalHost(h.Host)
	if err != nil || host == "" || host == c.BaseDomain || !strings.Contains(host, ".") {
		return Ref{}, err // a name without a dot, such as localhost, can be nobody's
	}
	if isAddr(host) {
		return Ref{}, nil
	}
	if sub, under := strings.CutSuffix(host, c.BaseDomain); under && c.BaseDomain != "" && strings.HasSuffix(sub, ".") {
		return Ref{Slug: sub[:len(sub)-1]}, nil // what cannot be a slug is nobody's, as the table says
	}
	return Ref{Host: host}, nil
}

// isAddr reports whether a canonical host is an address. Most are none at a
// glance, which costs less than the parser's error.
func isAddr(host string) bool {
	if last := host[len(host)-1]; (last < '0' || last > '9') && strings.IndexByte(host, ':') < 0 {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

var errHost = invalid("header/Host", "is not a host name with an optional port")

// CanonicalHost is the one key for all spellings of a host: lower case, without
// port and trailing dot. An address in brackets loses them. What a browser would
// not send is Invalid; "" stays "".
func CanonicalHost(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	if strings.HasPrefix(host, "[") {
		inner, port, ok := strings.Cut(host[1:], "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" || !portSuffix(port) {
			return "", errHost
		}
		return addr.String(), nil
	}
	name := host
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !portSuffix(host[i:]) {
			return "", errHost
		}
		name = host[:i]
	}
	name = strings.TrimSuffix(lower(name), ".")
	if len(name) == 0 || len(name) > 253 {
		return "", errHost
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return "", errHost
		}
	}
	return name, nil
}

// portSuffix reports whether s is "" or ":" and up to five digits.
func portSuffix(s string) bool {
	if s == "" {
		return true
	}
	return s[0] == ':' && len(s) <= 6 && strings.Trim(s[1:], "0123456789") == ""
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// fromPath reads /t/{slug}. The part up to the slug must be spelled plainly: an
// encoded slash or letter in it could be read otherwise behind us.
func fromPath(_ *Chain, h *Head) (Ref, error) {
	if hasOddSegments(h.Path) {
		return Ref{}, invalid("path", "has an empty first, a dot or a backslash segment")
	}
	rest, ok := strings.CutPrefix(h.Path, PathPrefix)
	if !ok {
		return Ref{}, nil
	}
	slug, _, _ := strings.Cut(rest, "/")
	raw, prefixed := strings.CutPrefix(h.Escaped, PathPrefix)
	raw, plain := strings.CutPrefix(raw, slug)
	if !IsSlug(slug) || !prefixed || !plain || (raw != "" && raw[0] != '/') {
		return Ref{}, invalid("path", "does not hold a slug after "+PathPrefix)
	}
	return Ref{Slug: slug}, nil
}

// hasOddSegments finds what some servers clean away and others do not.
func hasOddSegments(path string) bool {
	if strings.HasPrefix(path, "//") || strings.IndexByte(path, '\\') >= 0 {
		return true
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func fromHeader(_ *Chain, h *Head) (Ref, error) {
	switch {
	case h.tenant.count == 0:
		return Ref{}, nil
	case h.tenant.count > 1:
		return Ref{}, invalid("header/"+Header, "is there more than once")
	case !IsSlug(h.tenant.value):
		return Ref{}, invalid("header/"+Header, "is not a slug")
	}
	return Ref{Slug: h.tenant.value}, nil
}

// fromCookie reads the header itself, because net/http drops a cookie that it
// finds malformed, and what is behind us might not.
func fromCookie(_ *Chain, h *Head) (Ref, error) {
	var ref Ref
	for _, line := range h.cookies {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(pair, "=")
			if strings.Trim(name, " \t") != Cookie {
				continue
			}
			value = strings.Trim(value, " \t")
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if ref.Slug != "" {
				return Ref{}, invalid("cookie/"+Cookie, "is there more than once")
			}
			if !IsSlug(value) {
				return Ref{}, invalid("cookie/"+Cookie, "is not a slug")
			}
			ref.Slug = value
		}
	}
	return ref, nil
}

// IsSlug reports whether s has a slug's form; which slugs exist the table knows.
func IsSlug(s string) bool {
	if len(s) == 0 || len(s) > 40 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// lower folds ASCII only: other letters are no part of a host name or header.
func lower(s string) string {
	i := 0
	for i < len(s) && (s[i] < 'A' || s[i] > 'Z') {
		i++
	}
	if i == len(s) {
		return s // as nearly all are
	}
	b := []byte(s)
	for ; i < len(b); i++ {
		if b[i] >= 'A' && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

func invalid(pointer, detail string) error {
	e := problem.New(problem.Invalid, "%s %s", pointer, detail)
	e.Fields = []problem.Field{{Pointer: pointer, Detail: detail}}
	return e
}
