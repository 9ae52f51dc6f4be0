package sign

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/identify"
)

// Whoever shows an API key, or an issuer's token, is known by it here and nowhere else: a cell gets a
// short token of ours that says whose key it was. The key's secret stays at the
// edge, and cells check one kind of bearer.
const (
	bearerWindow = 30 * time.Second // how long one token is used
	bearerTTL    = 2 * time.Minute  // how long it is valid: the window, and a request in a queue
	mostBearers  = 1 << 14          // kept at once; over it they are made anew
)

// Bearers are the tokens that stand in for other credentials, each made once in a
// window.
type Bearers struct {
	Keys   token.Keys
	mu     sync.Mutex
	window int64
	made   map[bearerOf]string
}

type bearerOf struct {
	tenant  int64
	subject string
}

// Replace puts a token of ours in place of the credential that res was found by,
// or nothing where the router has no key to sign with.
func (b *Bearers) Replace(r *http.Request, res identify.Result, now time.Time) error {
	if !res.Foreign {
		return nil
	}
	value, err := b.Of(res.Claims, now)
	if err == nil {
		Authorize(r, value)
	}
	return err
}

// Authorize makes value what the cell gets; "" is nothing.
func Authorize(r *http.Request, value string) {
	if value == "" {
		r.Header.Del("Authorization")
		return
	}
	r.Header.Set("Authorization", value)
}

// Of is what the cell gets in place of a credential that says c; "" is nothing. It
// keeps nothing of c, and allocates nothing for a token that is made already.
func (b *Bearers) Of(c *token.Claims, now time.Time) (string, error) {
	if len(b.Keys) == 0 || c == nil {
		return "", nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if window := now.UnixNano() / int64(bearerWindow); window != b.window || len(b.made) >= mostBearers {
		b.window, b.made = window, map[bearerOf]string{}
	}
	of := bearerOf{int64(c.Tenant), c.Subject}
	if value, ok := b.made[of]; ok {
		return value, nil
	}
	of.subject = strings.Clone(of.subject)
	signed, err := b.Keys.Issue(token.Claims{Kind: token.Tenant, Tenant: c.Tenant, Subject: of.subject}, now, bearerTTL)
	if err != nil {
		return "", err
	}
	b.made[of] = "Bearer " + signed
	return b.made[of], nil
}
