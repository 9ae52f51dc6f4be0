package identify

import (
	"context"
	"errors"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// A Credential says whether what a request has shown still counts, for who asks
// later than the request. The zero Credential, of who has shown none, counts always.
type Credential struct {
	ID      string // of a token or key of ours; a part of the head that it is from
	Key     bool   // it is a key
	Expires int64  // of a token, ours or not: seconds since 1970
}

// Credential is what the request has shown.
func (r *Result) Credential() Credential {
	if r.Claims == nil {
		return Credential{}
	}
	return Credential{ID: r.Claims.ID, Key: r.key, Expires: r.Claims.ExpiresAt}
}

// Counts reports whether a credential is neither revoked nor over, and how long it has
// to go; 0 is without end.
func (c *Chain) Counts(k Credential) (left time.Duration, ok bool) {
	switch {
	case k.Key && c.Ring != nil:
		if k.Expires, ok = c.Ring.Key(k.ID); !ok {
			return 0, false
		}
	case k.ID != "" && c.Ring != nil && c.Ring.Revoked(k.ID):
		return 0, false
	}
	if k.Expires == 0 {
		return 0, true
	}
	left = time.Unix(k.Expires, 0).Sub(c.now())
	return left, left > 0
}

var errOver = problem.New(problem.Unauthenticated, "the credential is not valid any more")

// StillCounts is an error, Unauthenticated, where a credential no longer counts.
func (c *Chain) StillCounts(k Credential) error {
	if _, ok := c.Counts(k); !ok {
		return errOver
	}
	return nil
}

// Changed is closed when other keys or tokens may be revoked than now; nil where
// nobody says so.
func (c *Chain) Changed() <-chan struct{} {
	if c.Ring == nil {
		return nil
	}
	return c.Ring.Changed()
}

// Ready is a readiness check: nil where it is known which keys and tokens count.
func (c *Chain) Ready(context.Context) error {
	if c.Ring != nil && !c.Ring.Known() {
		return errors.New("no keys from disk or directory yet")
	}
	return nil
}
