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
	"github.com/prometheus/client_golang/prometheus"
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
		log.WarnContext(ctx, "keys of an issuer left out: of kinds or sizes that do not count here, or too many", "issuer", is.Issuer.Issuer, "left_out", ks.left, "kept", len(ks.published), "most", mostKeys)
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
	if len(ks.by) == 0 {
		return nil, fmt.Errorf("no key to verify with among %d", len(set.Keys))
	}
	return ks, nil
}

const (
	mostKeys  = 64 // of an issuer count
	mostTried = 4  // a token is tried with: of more it must name one (OpenID Connect Core 1.0, 10.1)

	// Bits of an RSA key: fewer are not safe (RFC 7518, 3.3), and more take long, as crypto/tls has it.
	leastRSA = 2048
	mostRSA  = 8192
)

// usable is the published keys that can verify at all, mostKeys at most, and how many
// are left out. One of a kind that nobody here knows spoils no other (RFC 7517, 5).
func usable(published []json.RawMessage) (keys []jose.JSONWebKey, left int) {
	for i, raw := range published {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil {
			left++
			continue
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && (r.N.BitLen() < leastRSA || r.N.BitLen() > mostRSA) {
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

// keySet is those of an issuer's keys that verify what it asks for now. Keys of different
// kinds may have one name (RFC 7517, 4.5).
func (is *issuer) keySet(published []jose.JSONWebKey, fetched time.Time) *keySet {
	ks := &keySet{published: published, by: map[asked]*oidc.IDTokenVerifier{}}
	ks.fetched.Store(&fetched)
	public := map[asked][]crypto.PublicKey{}
	for _, k := range published {
		for _, alg := range slices.Compact(slices.Sorted(slices.Values(is.algorithms()))) {
			if !fits(&k, alg) {
				continue
			}
			for _, kid := range slices.Compact([]string{"", k.KeyID}) {
				public[asked{kid, alg}] = append(public[asked{kid, alg}], k.Key)
			}
		}
	}
	for key, keys := range public {
		ks.by[key] = is.verifier(key.alg, keys)
	}
	return ks
}

// fits reports whether a key is of the kind that an algorithm signs with, and for it.
func fits(key *jose.JSONWebKey, alg string) bool {
	if own := key.Algorithm; own != "" && own != alg && !(own == "Ed25519" && alg == "EdDSA") { // RFC 9864
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	}
	return alg == "EdDSA"
}

// verifier is nil where the keys are more than a token is tried with: anybody can show one that
// none of them has signed.
func (is *issuer) verifier(alg string, keys []crypto.PublicKey) *oidc.IDTokenVerifier {
	if len(keys) > mostTried {
		return nil
	}
	return oidc.NewVerifier(is.Issuer.Issuer, &trial{jose.SignatureAlgorithm(alg), keys, is.checked},
		&oidc.Config{ClientID: is.Audience, SupportedSigningAlgs: []string{alg}})
}

// A trial is the keys of which one must have signed a token.
type trial struct {
	alg     jose.SignatureAlgorithm
	keys    []crypto.PublicKey
	checked prometheus.Counter
}

// VerifySignature implements oidc.KeySet.
func (t *trial) VerifySignature(_ context.Context, jwt string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(jwt, []jose.SignatureAlgorithm{t.alg})
	if err != nil {
		return nil, err
	}
	for _, key := range t.keys {
		t.checked.Inc()
		if payload, err := jws.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, errJWT
}
