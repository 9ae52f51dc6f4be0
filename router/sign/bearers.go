package sign

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// Whoever shows a credential is known by it here and nowhere else: a cell gets a short token that is
// signed for that cell, and says whose it was. What a cell could use at the global
// endpoint, or elsewhere, stays at the edge.
const (
	bearerWindow = 30 * time.Second // how long one token is used
	bearerTTL    = 2 * time.Minute  // how long it is valid: the window, and a request in a queue
	mostBearers  = 1 << 10          // of a shard kept at once; over it they are made anew
)

// Bearers are the tokens that stand in for credentials, each made once in a window.
type Bearers struct {
	Keys   token.Keys
	shards [64]bearerShard
}

type bearerShard struct {
	mu     sync.Mutex
	window int64
	made   map[bearerOf]string
	keys   map[directory.CellID]token.Keys
}

type bearerOf struct {
	tenant  directory.TenantID
	cell    directory.CellID
	subject string
}

// Authorize gives a request what cell gets in place of the credential that says c, as Of says.
func (b *Bearers) Authorize(r *http.Request, c *token.Claims, cell directory.CellID, now time.Time) error {
	value, err := b.Of(c, cell, now)
	if err != nil {
		return err
	}
	if value == "" {
		r.Header.Del("Authorization")
	} else {
		r.Header.Set("Authorization", value)
	}
	return nil
}

// Of is what a cell gets in place of a credential that says c; "" is nothing. It
// keeps nothing of c, and allocates nothing for a token that is made already.
func (b *Bearers) Of(c *token.Claims, cell directory.CellID, now time.Time) (string, error) {
	if len(b.Keys) == 0 || c == nil {
		return "", nil
	}
	s := &b.shards[uint64(c.Tenant)%uint64(len(b.shards))] //nolint:gosec // any spread will do
	s.mu.Lock()
	defer s.mu.Unlock()
	if window := now.UnixNano() / int64(bearerWindow); window != s.window || len(s.made) >= mostBearers {
		s.window, s.made, s.keys = window, map[bearerOf]string{}, map[directory.CellID]token.Keys{}
	}
	of := bearerOf{c.Tenant, cell, c.Subject}
	if value, ok := s.made[of]; ok {
		return value, nil
	}
	of.subject, of.cell = strings.Clone(of.subject), directory.CellID(strings.Clone(string(cell)))
	keys, ok := s.keys[cell]
	if !ok {
		keys = b.Keys[:1].For(token.OfCell(cell))
		s.keys[of.cell] = keys
	}
	signed, err := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: of.tenant, Subject: of.subject}, now, bearerTTL)
	if err != nil {
		return "", err
	}
	s.made[of] = "Bearer " + signed
	return s.made[of], nil
}
