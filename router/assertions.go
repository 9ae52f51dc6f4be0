package router

import (
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/table"
)

// assertions keeps what was signed for as long as its window, a second, so that
// of a tenant's requests only the first in each second waits for cryptography.
type assertions struct {
	keys   token.Keys
	shards [64]assertionShard
}

type assertionShard struct {
	mu     sync.Mutex
	signer *token.Signer
	window int64
	signed map[asserted]string
}

// asserted is what of an assertion is not the window.
type asserted struct {
	tenant directory.TenantID
	cell   directory.CellID
	epoch  directory.Epoch
}

// of is the assertion for a request to e at now.
func (a *assertions) of(e table.Entry, now time.Time) (string, error) {
	s := &a.shards[uint64(e.Tenant)%uint64(len(a.shards))] //nolint:gosec // any spread will do
	key, window := asserted{e.Tenant, e.Cell, e.Epoch}, now.Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		signer, err := a.keys.NewSigner()
		if err != nil {
			return "", err
		}
		s.signer, s.signed = signer, map[asserted]string{}
	}
	if s.window != window {
		s.window = window
		clear(s.signed)
	}
	if text, ok := s.signed[key]; ok {
		return text, nil
	}
	text := s.signer.Assert(token.Assertion{Tenant: e.Tenant, Cell: e.Cell, Epoch: e.Epoch, Window: window})
	s.signed[key] = text
	return text, nil
}
