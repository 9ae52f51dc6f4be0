package guard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/identify"
)

// An issuer verifies one issuer's tokens with the keys that were fetched last. It
// never fetches while a request waits.
type issuer struct {
	Issuer
	checked prometheus.Counter // signatures
	keys    atomic.Pointer[keySet]
	order   order       // of its tokens that are known
	wanted  atomic.Bool // a token named a key that is not there
	due     time.Time   // of the next fetch; Run's
	failed  int         // fetches in a row; Run's
	running atomic.Bool // a fetch is under way
}

// A keySet is what one fetch brought.
type keySet struct {
	published []jose.JSONWebKey // those that can verify
	left      int               // others: of kinds or sizes that do not count, or too many
	by        map[asked]*oidc.IDTokenVerifier
	fetched   atomic.Pointer[time.Time] // when that was said last
}

// An asked is what a token says of its key. Who names none ("") may mean each that signs by alg.
type asked struct{ kid, alg string }

const (
	fetchTimeout = 5 * time.Second
	maxJWKS      = 1 << 20          // bytes of an answer
	refetch      = 10 * time.Second // between two fetches because of an unknown key, at least
	keysLast     = 24 * time.Hour   // an issuer that is silent for longer is not believed
	maxSubject   = 255              // bytes of a token's sub, by OpenID Connect Core 1.0, 2
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
	if b, sure := g.recall(ru, bearer, now); sure {
		return b, nil
	}
	name, key, ok := peek(bearer)
	if !ok {
		return identify.Bearer{}, nil
	}
	is := ru.issuers[name]
	if is == nil {
		return g.bad("jwt_issuer")
	}
	ks := is.keys.Load()
	if ks == nil || !ks.last(now) {
		if at := ru.route(method, path); at != nil && at.Auth == "open" {
			g.metrics.refused.WithLabelValues("jwt_waived").Inc()
			return identify.Bearer{Known: true, Waived: true}, nil
		}
		g.metrics.refused.WithLabelValues("jwt_no_keys").Inc()
		return identify.Bearer{Known: true}, errNoKeys(name)
	}
	with, there := ks.by[key]
	switch {
	case !there && key.kid != "":
		is.wanted.Store(true) // it may be new; the token can be shown again
		return g.bad("jwt_key")
	case !there:
		return g.bad("jwt")
	case with == nil:
		return g.bad("jwt_many_keys")
	}
	v, err := is.verify(with, bearer, now)
	if err != nil {
		return g.bad("jwt")
	}
	v.issuer, v.keys = is, ks
	g.known.put(identify.HashOf(bearer), v)
	return v.bearer, nil
}

// Recall implements identify.Verifier.
func (g *Guard) Recall(bearer string, now time.Time) (b identify.Bearer, sure bool) {
	return g.recall(g.rules.Load(), bearer, now)
}

func (g *Guard) recall(ru *rules, bearer string, now time.Time) (b identify.Bearer, sure bool) {
	if len(ru.issuers) == 0 || !looksLikeJWT(bearer) {
		return b, true
	}
	v, ok := g.known.get(identify.HashOf(bearer))
	if ok && now.Before(v.expires) && ru.issuers[v.issuer.Issuer.Issuer] == v.issuer && v.issuer.keys.Load() == v.keys && v.keys.last(now) {
		return v.bearer, true
	}
	return b, false
}

func (g *Guard) bad(reason string) (identify.Bearer, error) {
	g.metrics.refused.WithLabelValues(reason).Inc()
	return identify.Bearer{Known: true}, errJWT
}

// last reports whether the keys are still believed.
func (ks *keySet) last(now time.Time) bool { return now.Sub(*ks.fetched.Load()) <= keysLast }

func looksLikeJWT(s string) bool {
	return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2 && len(s) <= 16<<10
}

// peek is what an unverified JWT says of its issuer and key.
func peek(bearer string) (issuer string, key asked, ok bool) {
	part := strings.Split(bearer, ".")
	if len(part) != 3 {
		return "", asked{}, false
	}
	var head struct {
		KeyID     string `json:"kid"`
		Algorithm string `json:"alg"`
	}
	var body struct {
		Issuer string `json:"iss"`
	}
	for i, v := range []any{&head, &body} {
		b, err := base64.RawURLEncoding.DecodeString(part[i])
		if err != nil || json.Unmarshal(b, v) != nil {
			return "", asked{}, false
		}
	}
	return body.Issuer, asked{head.KeyID, head.Algorithm}, true
}

// verify checks signature, algorithm, audience and time, and maps the claims.
func (is *issuer) verify(with *oidc.IDTokenVerifier, bearer string, now time.Time) (verified, error) {
	t, err := with.Verify(context.Background(), bearer) // the keys are here: nothing waits
	if err != nil {
		return verified{}, err
	}
	if now.After(t.Expiry) || len(t.Subject) > maxSubject { // the verifier's clock is the process's
		return verified{}, errJWT
	}
	v := verified{bearer: identify.Bearer{Known: true, Tenant: is.Tenant, Subject: t.Subject, Expires: t.Expiry.Unix()}, expires: t.Expiry}
	if is.TenantClaim == "" {
		return v, nil
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return v, err
	}
	slug, ok := claims[is.TenantClaim].(string)
	if !ok || !identify.IsSlug(slug) {
		return v, errors.New("no tenant claim that is a slug")
	}
	v.bearer.Slug = slug
	return v, nil
}

// issuersOf makes the policy's issuers. One whose keys come from where they came from
// before keeps them; if something else of it has changed they are fetched at once, too.
func issuersOf(list []Issuer, before map[string]*issuer, checked prometheus.Counter) map[string]*issuer {
	all := map[string]*issuer{}
	for _, is := range list {
		old := before[is.Issuer]
		if old != nil && reflect.DeepEqual(old.Issuer, is) {
			all[is.Issuer] = old
			continue
		}
		one := &issuer{Issuer: is, checked: checked}
		if old != nil && old.JWKS == is.JWKS {
			if ks := old.keys.Load(); ks != nil {
				one.keys.Store(one.keySet(ks.published, *ks.fetched.Load()))
			}
		}
		all[is.Issuer] = one
	}
	return all
}
