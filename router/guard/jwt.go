package guard

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/identify"
)

// An issuer verifies one issuer's tokens with the keys that were fetched last. It
// never fetches while a request waits.
type issuer struct {
	Issuer
	keys    atomic.Pointer[keySet]
	wanted  atomic.Bool // a token named a key that is not there
	due     time.Time   // of the next fetch; Run's
	failed  int         // fetches in a row; Run's
	running atomic.Bool // a fetch is under way
}

// A keySet is what one fetch brought, and the tokens that were verified with it.
type keySet struct {
	byID    map[string]*oidc.IDTokenVerifier // of the key with the id
	all     *oidc.IDTokenVerifier            // of any, for tokens that name none
	fetched time.Time

	mu       sync.Mutex
	verified map[[sha256.Size]byte]verified
}

type verified struct {
	bearer  identify.Bearer
	expires time.Time
}

const (
	fetchTimeout = 5 * time.Second
	maxJWKS      = 1 << 20          // bytes of an answer
	refetch      = 10 * time.Second // between two fetches because of an unknown key, at least
	mostVerified = 1 << 14          // tokens remembered per issuer
	keysLast     = 24 * time.Hour   // an issuer that is silent for longer is not believed
)

// errNoKeys is a token whose issuer's keys cannot be had: nobody knows whether it
// is valid.
func errNoKeys(name string) error {
	e := problem.New(problem.Unavailable, "the keys of issuer %s are not to be had now", name)
	e.RetryAfter = 5 * time.Second
	return e
}

var errJWT = problem.New(problem.Unauthenticated, "token is not valid")

// Verify implements identify.Verifier: a JWT of one of the policy's issuers. Known
// is false where bearer is no JWT, or there are no issuers.
func (g *Guard) Verify(bearer, method, path string, now time.Time) (identify.Bearer, error) {
	ru := g.rules.Load()
	if len(ru.issuers) == 0 {
		return identify.Bearer{}, nil
	}
	name, kid, ok := peek(bearer)
	if !ok {
		return identify.Bearer{}, nil
	}
	is := ru.issuers[name]
	if is == nil {
		return g.bad("jwt_issuer")
	}
	ks := is.keys.Load()
	if ks == nil || now.Sub(ks.fetched) > keysLast {
		if at := ru.route(method, path); at != nil && at.Auth == "open" {
			g.metrics.refused.WithLabelValues("jwt_waived").Inc()
			return identify.Bearer{Known: true, Waived: true}, nil
		}
		g.metrics.refused.WithLabelValues("jwt_no_keys").Inc()
		return identify.Bearer{Known: true}, errNoKeys(name)
	}
	with := ks.all
	if kid != "" {
		if with = ks.byID[kid]; with == nil {
			is.wanted.Store(true) // it may be new; the token can be shown again
			return g.bad("jwt_key")
		}
	}
	sum := sha256.Sum256([]byte(bearer))
	if v, ok := ks.known(sum); ok && now.Before(v.expires) {
		return v.bearer, nil
	}
	v, err := is.verify(with, bearer, now)
	if err != nil {
		return g.bad("jwt")
	}
	ks.remember(sum, v)
	return v.bearer, nil
}

func (g *Guard) bad(reason string) (identify.Bearer, error) {
	g.metrics.refused.WithLabelValues(reason).Inc()
	return identify.Bearer{Known: true}, errJWT
}

// peek is what an unverified JWT says of its issuer and key.
func peek(bearer string) (issuer, kid string, ok bool) {
	part := strings.Split(bearer, ".")
	if len(part) != 3 || !strings.HasPrefix(bearer, "eyJ") || len(bearer) > 16<<10 {
		return "", "", false
	}
	var head struct {
		KeyID string `json:"kid"`
	}
	var body struct {
		Issuer string `json:"iss"`
	}
	for i, v := range []any{&head, &body} {
		b, err := base64.RawURLEncoding.DecodeString(part[i])
		if err != nil || json.Unmarshal(b, v) != nil {
			return "", "", false
		}
	}
	return body.Issuer, head.KeyID, true
}

// verify checks signature, algorithm, audience and time, and maps the claims.
func (is *issuer) verify(with *oidc.IDTokenVerifier, bearer string, now time.Time) (verified, error) {
	t, err := with.Verify(context.Background(), bearer) // the keys are here: nothing waits
	if err != nil {
		return verified{}, err
	}
	if now.After(t.Expiry) { // the verifier's clock is the process's
		return verified{}, errJWT
	}
	v := verified{bearer: identify.Bearer{Known: true, Tenant: is.Tenant, Subject: t.Subject}, expires: t.Expiry}
	if is.TenantClaim == "" {
		return v, nil
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return v, err
	}
	slug, ok := claims[is.TenantClaim].(string)
	if !ok {
		return v, errors.New("no tenant claim")
	}
	v.bearer.Slug = slug
	return v, nil
}

func (ks *keySet) known(sum [sha256.Size]byte) (verified, bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	v, ok := ks.verified[sum]
	return v, ok
}

func (ks *keySet) remember(sum [sha256.Size]byte, v verified) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if len(ks.verified) >= mostVerified {
		clear(ks.verified)
	}
	ks.verified[sum] = v
}

// issuersOf makes the policy's issuers; one that is as before keeps its keys.
func issuersOf(list []Issuer, before map[string]*issuer) map[string]*issuer {
	all := map[string]*issuer{}
	for _, is := range list {
		if old := before[is.Issuer]; old != nil && reflect.DeepEqual(old.Issuer, is) {
			all[is.Issuer] = old
			continue
		}
		all[is.Issuer] = &issuer{Issuer: is}
	}
	return all
}
