package guard

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// FetchKeys keeps the issuers' keys fresh until ctx ends. An issuer that does not
// answer costs a line now and then, and its keys are kept for a day.
func (g *Guard) FetchKeys(ctx context.Context, log *slog.Logger) error {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var fetches sync.WaitGroup
	defer fetches.Wait()
	for {
		for _, is := range g.rules.Load().issuers {
			if now := time.Now(); is.mustFetch(now) && is.running.CompareAndSwap(false, true) {
				fetches.Go(func() {
					defer is.running.Store(false)
					is.runOnce(ctx, now, log)
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// firstKeys is how long after its start a guard waits for issuers' keys.
const firstKeys = 10 * time.Second

// Ready is a readiness check: an error while an issuer's keys were not fetched yet, for
// firstKeys at most. Who serves without them answers 503 to good tokens; an issuer that
// is dead must not keep everybody else out.
func (g *Guard) Ready(context.Context) error {
	if g.now() >= int64(firstKeys) {
		return nil
	}
	for name, is := range g.rules.Load().issuers {
		if is.keys.Load() == nil {
			return fmt.Errorf("no keys of issuer %s yet", name)
		}
	}
	return nil
}

// mustFetch reports whether the keys are due, or one is missing and the last
// fetch is not of just now.
func (is *issuer) mustFetch(now time.Time) bool {
	if is.running.Load() {
		return false
	}
	ks := is.keys.Load()
	return now.After(is.due) || ks != nil && is.wanted.Load() && is.failed == 0 && now.Sub(*ks.fetched.Load()) > refetch
}

// runOnce fetches once and says when to fetch again.
func (is *issuer) runOnce(ctx context.Context, now time.Time, log *slog.Logger) {
	ks, err := is.fetch(ctx, now)
	if err != nil {
		is.failed++
		pause := min(time.Second<<min(is.failed-1, 6), time.Minute)
		is.due = now.Add(pause/2 + rand.N(pause))
		if ctx.Err() == nil {
			log.WarnContext(ctx, "keys not fetched; the ones before stay", "issuer", is.Issuer.Issuer, "error", err, "pause", pause)
		}
		return
	}
	is.failed, is.due = 0, now.Add(is.refresh()*3/4+rand.N(is.refresh()/2))
	is.wanted.Store(false)
	before := is.keys.Load()
	if before != nil && before.left == ks.left && reflect.DeepEqual(before.published, ks.published) {
		before.fetched.Store(&now) // what they have proven need not be proven again
		return
	}
	is.keys.Store(ks)
	if ks.left > 0 && (before == nil || before.left != ks.left) && ctx.Err() == nil {
		log.WarnContext(ctx, "keys of an issuer left out: of kinds that verify nothing here, or too many", "issuer", is.Issuer.Issuer, "left_out", ks.left, "kept", len(ks.published), "most", mostKeys)
	}
}

// fetch asks for the key set, finding it first where the policy does not say where it is.
func (is *issuer) fetch(ctx context.Context, now time.Time) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	at, by := is.JWKS, fetcher
	if at == "" {
		var found struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if err := get(ctx, by, strings.TrimSuffix(is.Issuer.Issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != is.Issuer.Issuer {
			return nil, fmt.Errorf("discovery names issuer %q", found.Issuer)
		}
		if err := is.checkKeys(found.JWKS); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		at, by = found.JWKS, is.follower(found.JWKS)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := get(ctx, by, at, &set); err != nil {
		return nil, err
	}
	keys, left := usable(set.Keys)
	slices.SortStableFunc(keys, func(a, b jose.JSONWebKey) int { return strings.Compare(a.KeyID, b.KeyID) }) // some tell them in another order each time
	ks := is.keySet(keys, now)
	ks.left = left
	if len(ks.byID) == 0 {
		return nil, fmt.Errorf("no key to verify with among %d", len(set.Keys))
	}
	return ks, nil
}

// mostKeys is how many keys of an issuer count. A token that names none is tried with
// each of them.
const mostKeys = 64

// usable is the published keys that can verify at all, mostKeys at most, and how many
// are left out. One of a kind that nobody here knows spoils no other (RFC 7517, 5).
func usable(published []json.RawMessage) (keys []jose.JSONWebKey, left int) {
	for i, raw := range published {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil {
			left++
			continue
		}
		switch k.Key.(type) { // symmetric and private keys verify nothing
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			if k.Use != "" && k.Use != "sig" {
				continue
			}
			if len(keys) == mostKeys {
				return keys, left + len(published) - i
			}
			keys = append(keys, k)
		}
	}
	return keys, left
}

// keySet is those of an issuer's keys that verify what it asks for now.
func (is *issuer) keySet(published []jose.JSONWebKey, fetched time.Time) *keySet {
	ks := &keySet{published: published, byID: map[string]*oidc.IDTokenVerifier{}}
	ks.fetched.Store(&fetched)
	var public []crypto.PublicKey
	named := map[string][]crypto.PublicKey{} // keys of different kinds may have one name (RFC 7517, 4.5)
	for _, k := range published {
		if slices.ContainsFunc(is.algorithms(), func(alg string) bool { return fits(k.Key, alg) }) {
			public = append(public, k.Key)
			named[k.KeyID] = append(named[k.KeyID], k.Key)
		}
	}
	for id, keys := range named {
		ks.byID[id] = is.verifier(keys...)
	}
	ks.all = is.verifier(public...)
	return ks
}

// fits reports whether a key is of the kind that an algorithm signs with.
func fits(key any, alg string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	}
	return alg == "EdDSA"
}

func (is *issuer) verifier(keys ...crypto.PublicKey) *oidc.IDTokenVerifier {
	return oidc.NewVerifier(is.Issuer.Issuer, &oidc.StaticKeySet{PublicKeys: keys},
		&oidc.Config{ClientID: is.Audience, SupportedSigningAlgs: is.algorithms()})
}
