// Package token signs and checks what the parts of Cellway show each other:
// bearer tokens, bound to a tenant and never to a cell, so that they stay valid
// after any number of moves, and the router's assertion, by which a cell knows
// that a request came through a router and for which tenant.
//
// Assertions and tenants' tokens are HMAC-SHA256, since they are checked with each request; those
// of operators and of our processes are signed with Ed25519 (RFC 8032), so that a cell can check one and
// not make one. Each is over text with a prefix of its own, so that none can pass for
// another. Comparison is in constant time.
package token

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Kind says what a token's bearer is.
type Kind string

// The kinds of bearer.
const (
	Tenant   Kind = "tenant"   // acts for one tenant at the global endpoint
	Operator Kind = "operator" // may change the directory
	Router   Kind = "router"   // follows the table and the credentials
	Cell     Kind = "cell"     // registers and reports itself; Subject is its id
	Mover    Kind = "mover"    // works on moves; to cells, who it is says one of its own keys
)

// Claims are what a token says.
type Claims struct {
	ID        string             `json:"jti"`
	Kind      Kind               `json:"knd"`
	Tenant    directory.TenantID `json:"tid,omitempty"` // of Kind Tenant only
	Subject   string             `json:"sub"`           // who: a user, an operator, a process
	IssuedAt  int64              `json:"iat"`           // seconds since 1970
	ExpiresAt int64              `json:"exp"`           // seconds since 1970

	// Of what movers sign, and to be held to by the cell that takes it.
	Cell directory.CellID `json:"cel,omitempty"` // the only one that it is for
	Move directory.MoveID `json:"mov,omitempty"` // the only one that it is for; of Kind Cell only
}

const (
	tokenPrefix   = "cwt1" // marks a Cellway token, for people and secret scanners
	tokenDomain   = "cellway token v1\x00"
	controlDomain = "cellway control token v1\x00"
)

// Issue signs a token for c, valid from now for ttl, with an id of its own. Keys made by
// Public sign nothing, and those made by For nothing that the keys before them accept.
func (k Keys) Issue(c Claims, now time.Time, ttl time.Duration) (string, error) {
	if len(k) == 0 || k[0].Secret == nil {
		return "", problem.New(problem.Unavailable, "no signing key")
	}
	if (c.Kind == Tenant) != (c.Tenant > 0) {
		return "", problem.New(problem.Invalid, "a token names a tenant if and only if it is a tenant's")
	}
	if ttl <= 0 {
		return "", problem.New(problem.Invalid, "a token's lifetime must be positive")
	}
	var id [10]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	c.ID, c.IssuedAt, c.ExpiresAt = hex.EncodeToString(id[:]), now.Unix(), now.Add(ttl).Unix()
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	body := tokenPrefix + "." + k[0].ID + "." + base64.RawURLEncoding.EncodeToString(payload)
	if c.Kind == Tenant {
		return body + "." + k[0].sign(tokenDomain, body), nil
	}
	return body + "." + k[0].signControl(body), nil
}

// Inspect is what a token says, unverified: for people, never to decide by.
func Inspect(token string) (Claims, bool) {
	var c Claims
	part := strings.Split(token, ".")
	if len(part) != 4 || part[0] != tokenPrefix {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[2])
	return c, err == nil && json.Unmarshal(payload, &c) == nil
}

// Ours reports whether s has the form of a Cellway token; nothing is verified.
func Ours(s string) bool { return strings.HasPrefix(s, tokenPrefix+".") }

// errToken is the one answer to every bad token: which part is wrong is nobody's business.
var errToken = problem.New(problem.Unauthenticated, "token is not valid")

// Verify checks a token's signature and lifetime and returns what it says.
func (k Keys) Verify(token string, now time.Time) (Claims, error) {
	c, _, err := k.VerifyBy(token, now)
	return c, err
}

// VerifyBy is Verify that also says which key the token was signed with.
func (k Keys) VerifyBy(token string, now time.Time) (Claims, Key, error) {
	var c Claims
	body, mac, ok := cutLast(token)
	part := strings.Split(body, ".")
	if !ok || len(part) != 3 || part[0] != tokenPrefix {
		return c, Key{}, errToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return Claims{}, Key{}, errToken
	}
	check := k.checkControl
	if c.Kind == Tenant { // which it claims to be is part of what is signed
		check = func(id, body, mac string) (Key, bool) { return k.check(id, tokenDomain, body, mac) }
	}
	by, ok := check(part[1], body, mac)
	if !ok {
		return Claims{}, Key{}, errToken
	}
	if now.Unix() >= c.ExpiresAt {
		return Claims{}, Key{}, problem.New(problem.Unauthenticated, "token has expired")
	}
	return c, by, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
