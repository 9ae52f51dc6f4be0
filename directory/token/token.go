// Package token signs and checks what the parts of Cellway show each other:
// bearer tokens, bound to a tenant and never to a cell, so that they stay valid
// after any number of moves, and the router's assertion, by which a cell knows
// that a request came through a router and for which tenant.
//
// Both are HMAC-SHA256 over text with a prefix of its own, so that neither can
// pass for the other. Comparison is in constant time.
package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Key signs. ID is public and says which key to check with.
type Key struct {
	ID     string
	Secret []byte
}

// Keys are what is accepted; the first one signs. To rotate: add the new key at
// the end everywhere, then move it to the front, then drop the old one.
type Keys []Key

// minSecret is the least length of a secret in bytes: HMAC-SHA256's security level.
const minSecret = 32

// ParseKeys reads "id:base64,id:base64": ids of [a-z0-9-], each once, secrets of
// at least 32 bytes.
func ParseKeys(s string) (Keys, error) {
	var keys Keys
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		id, secret, ok := strings.Cut(part, ":")
		raw, err := base64.StdEncoding.DecodeString(secret)
		if !ok || err != nil || id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, problem.New(problem.Invalid, "keys must be id:base64,... with ids of a-z, 0-9 and -")
		}
		if len(raw) < minSecret {
			return nil, problem.New(problem.Invalid, "key %s is shorter than %d bytes", id, minSecret)
		}
		if slices.ContainsFunc(keys, func(k Key) bool { return k.ID == id }) {
			return nil, problem.New(problem.Invalid, "key %s is there twice", id)
		}
		keys = append(keys, Key{ID: id, Secret: raw})
	}
	return keys, nil
}

// NewKey makes a key in ParseKeys' form from the system's random source.
func NewKey(id string) string {
	secret := make([]byte, minSecret)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	return id + ":" + base64.StdEncoding.EncodeToString(secret)
}

// Kind says what a token's bearer is.
type Kind string

// The kinds of bearer.
const (
	Tenant   Kind = "tenant"   // acts for one tenant at the global endpoint
	Operator Kind = "operator" // may change the directory
	Service  Kind = "service"  // a router, a cell, a mover: reads, registers and reports
)

// Claims are what a token says.
type Claims struct {
	ID        string             `json:"jti"`
	Kind      Kind               `json:"knd"`
	Tenant    directory.TenantID `json:"tid,omitempty"` // of Kind Tenant only
	Subject   string             `json:"sub"`           // who: a user, an operator, a process
	IssuedAt  int64              `json:"iat"`           // seconds since 1970
	ExpiresAt int64              `json:"exp"`           // seconds since 1970
}

const (
	tokenPrefix = "cwt1" // marks a Cellway token, for people and secret scanners
	tokenDomain = "cellway token v1\x00"
)

// Issue signs a token for c, valid from now for ttl, with an id of its own.
func (k Keys) Issue(c Claims, now time.Time, ttl time.Duration) (string, error) {
	if len(k) == 0 {
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
	return body + "." + sign(k[0], tokenDomain, body), nil
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
	by, ok := k.check(part[1], tokenDomain, body, mac)
	if !ok {
		return c, Key{}, errToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return Claims{}, Key{}, errToken
	}
	if now.Unix() >= c.ExpiresAt {
		return Claims{}, Key{}, problem.New(problem.Unauthenticated, "token has expired")
	}
	return c, by, nil
}

// Have reports whether a key is accepted now, its secret and all.
func (k Keys) Have(key Key) bool {
	for i := range k {
		if k[i].ID == key.ID {
			return subtle.ConstantTimeCompare(k[i].Secret, key.Secret) == 1
		}
	}
	return false
}

func sign(k Key, domain, body string) string {
	m := hmac.New(sha256.New, k.Secret)
	m.Write([]byte(domain))
	m.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// check is the key with the id, if the MAC is its.
func (k Keys) check(id, domain, body, mac string) (Key, bool) {
	for _, key := range k {
		if key.ID == id {
			return key, hmac.Equal([]byte(sign(key, domain, body)), []byte(mac))
		}
	}
	return Key{}, false
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
