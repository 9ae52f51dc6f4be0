package directory

import (
	"context"
	"encoding/hex"
	"regexp"
	"time"
)

// MaxKeys is how many keys of one tenant may be valid at once. Every router keeps
// all of them in memory.
const MaxKeys = 100

// A Key is an API key of a tenant, as it is recorded: without its secret, which
// only its holder ever has. It is bound to the tenant and never to a cell.
type Key struct {
	ID        string    `json:"id"` // 16 characters of a-z and 2-7, part of the key itself
	Tenant    TenantID  `json:"tenant"`
	Name      string    `json:"name"` // what it is for, for people
	Hash      string    `json:"hash"` // SHA-256 of the whole key, in hex
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	Revoked   bool      `json:"revoked,omitempty"`
}

// A RevokedToken is a signed token that counts no more. It may be forgotten once
// the token would have expired.
type RevokedToken struct {
	ID        string    `json:"id"`
	Tenant    TenantID  `json:"tenant"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Credentials bring what a router knows of keys and revoked tokens from version
// Since to Version. These versions are counted apart from the table's, from 1 on:
// a change of placements that is being held back holds back no revocation. With
// 0 they are everything, without revoked keys and keys of deleted tenants. Head and
// Links are those of a chain of their own, as an Update has them.
type Credentials struct {
	Since   Version        `json:"since"`
	Version Version        `json:"version"`
	Head    Head           `json:"head,omitzero"`
	Links   []Link         `json:"links,omitempty"`
	Keys    []Key          `json:"keys,omitempty"`
	Tokens  []RevokedToken `json:"tokens,omitempty"`
}

// Keys is the part of a Directory that keeps what tenants authenticate with.
type Keys interface {
	// AddKey records a key and claims its id (kind "key") for the tenant. The same
	// key again is no error and no change; another one with the id, or one more than
	// MaxKeys, is a Conflict. CreatedAt and Revoked are ignored.
	AddKey(ctx context.Context, k Key) (Key, error)
	// ListKeys is the tenant's keys that are not revoked, by id.
	ListKeys(ctx context.Context, id TenantID) ([]Key, error)
	// RevokeKey ends a key of the tenant's and releases its claim. Doing it again is
	// no error and no change.
	RevokeKey(ctx context.Context, id TenantID, key string) error
	// RevokeToken ends a signed token of the tenant's. Doing it again is no error and
	// no change, unless the token is said to expire later than before: it is the caller
	// who says when that is, and the revocation is kept until the latest.
	RevokeToken(ctx context.Context, t RevokedToken) error
	// Credentials waits until there are newer ones than since, then returns what
	// changed; when wait is over first, it returns an empty update at since, with the
	// head of that version. Since 0 does not wait. Gone where since is too old to continue from or newer than the
	// record: start again from 0.
	Credentials(ctx context.Context, since Version, wait time.Duration) (Credentials, error)
}

var (
	keyForm   = regexp.MustCompile(`^[a-z2-7]{16}$`)
	tokenForm = regexp.MustCompile(`^[0-9a-f]{20}$`)
)

// Validate reports what is wrong with a key as it is asked for.
func (k Key) Validate() error {
	var bad fieldErrors
	bad.check(keyForm.MatchString(k.ID), "/id", "must match "+keyForm.String())
	hash, err := hex.DecodeString(k.Hash)
	bad.check(err == nil && len(hash) == 32, "/hash", "must be a SHA-256 in hex")
	bad.check(len(k.Name) > 0 && len(k.Name) <= 100 && plain(k.Name), "/name", "must be 1 to 100 bytes of printable text")
	bad.check(k.Tenant > 0, "/tenant", "must be positive")
	return bad.err("key")
}

// Same reports whether two keys are one.
func (k Key) Same(o Key) bool { return k.ID == o.ID && k.Tenant == o.Tenant && k.Hash == o.Hash }

// Outlives reports whether t is to be kept longer than o, in whole seconds, as tokens have it.
func (t RevokedToken) Outlives(o RevokedToken) bool { return t.ExpiresAt.Unix() > o.ExpiresAt.Unix() }

// Validate reports what is wrong with a token that is to be revoked.
func (t RevokedToken) Validate() error {
	var bad fieldErrors
	bad.check(tokenForm.MatchString(t.ID), "/id", "must match "+tokenForm.String())
	bad.check(t.Tenant > 0, "/tenant", "must be positive")
	bad.check(!t.ExpiresAt.IsZero(), "/expires_at", "must be when the token expires")
	return bad.err("token")
}
