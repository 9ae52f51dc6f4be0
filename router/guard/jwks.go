package guard

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
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
	return now.After(is.due) || ks != nil && is.wanted.Load() && is.failed == 0 && now.Sub(ks.fetched) > refetch
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
	is.keys.Store(ks)
}

// fetch asks for the key set, finding it first where the policy does not say where it is.
func (is *issuer) fetch(ctx context.Context, now time.Time) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	at := is.JWKS
	if at == "" {
		var found struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if err := get(ctx, strings.TrimSuffix(is.Issuer.Issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != is.Issuer.Issuer {
			return nil, fmt.Errorf("discovery names issuer %q", found.Issuer)
		}
		if err := checkURL(found.JWKS); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		at = found.JWKS
	}
	var set jose.JSONWebKeySet
	if err := get(ctx, at, &set); err != nil {
		return nil, err
	}
	ks := is.keySet(set.Keys, now)
	if len(ks.byID) == 0 {
		return nil, errors.New("no key to verify with")
	}
	return ks, nil
}

// keySet is those of an issuer's keys that verify what it asks for now.
func (is *issuer) keySet(published []jose.JSONWebKey, fetched time.Time) *keySet {
	ks := &keySet{published: published, byID: map[string]*oidc.IDTokenVerifier{}, fetched: fetched}
	var public []crypto.PublicKey
	for _, k := range published {
		switch k.Key.(type) { // symmetric and private keys verify nothing
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			if k.Use == "" || k.Use == "sig" {
				public = append(public, k.Key)
				ks.byID[k.KeyID] = is.verifier(k.Key)
			}
		}
	}
	ks.all = is.verifier(public...)
	return ks
}

func (is *issuer) verifier(keys ...crypto.PublicKey) *oidc.IDTokenVerifier {
	return oidc.NewVerifier(is.Issuer.Issuer, &oidc.StaticKeySet{PublicKeys: keys},
		&oidc.Config{ClientID: is.Audience, SupportedSigningAlgs: is.algorithms()})
}

// fetcher follows no redirect: keys come from where the policy says.
var fetcher = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       fetchTimeout,
}

func get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := fetcher.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", url, resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxJWKS)).Decode(into)
}
