// Package sign is what a router signs for cells, once for all requests that it holds for:
// assertions of where a tenant is, and tokens in place of credentials that stay at the edge.
package sign

import (
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/table"
)

// Assertions keeps what was signed for as long as its window, a second, so that
// of a tenant's requests only the first in each second waits for cryptography.
type Assertions struct {
	Keys   token.Keys
	shards [64]assertionShard
}

type assertionShard struct {
	mu     sync.Mutex
	signer map[directory.CellID]*token.Signer // each cell has keys of its own
	window int64
	signed map[asserted]span
	text   []byte // of the signed, one after the other; used again for the next window
}

// A span is a part of a shard's text.
type span struct{ from, to int }

// asserted is what of an assertion is not the window.
type asserted struct {
	tenant directory.TenantID
	cell   directory.CellID
	epoch  directory.Epoch
}

// Of is the assertion for a request to e at now.
func (a *Assertions) Of(e table.Entry, now time.Time) (string, error) {
	b, err := a.AppendTo(make([]byte, 0, 192), e, now)
	return string(b), err
}

// AppendTo appends the assertion for a request to e at now to dst.
func (a *Assertions) AppendTo(dst []byte, e table.Entry, now time.Time) ([]byte, error) {
	s := &a.shards[uint64(e.Tenant)%uint64(len(a.shards))] //nolint:gosec // any spread will do
	key, window := asserted{e.Tenant, e.Cell, e.Epoch}, now.Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		s.signer, s.signed = map[directory.CellID]*token.Signer{}, map[asserted]span{}
	}
	signer := s.signer[e.Cell]
	if signer == nil {
		var err error
		if signer, err = a.Keys.For(token.OfCell(e.Cell)).NewSigner(); err != nil {
			return dst, err
		}
		s.signer[directory.CellID(strings.Clone(string(e.Cell)))] = signer
	}
	if s.window != window {
		s.window, s.text = window, s.text[:0]
		clear(s.signed)
	}
	at, ok := s.signed[key]
	if !ok {
		at.from = len(s.text)
		s.text = signer.AppendAssert(s.text, token.Assertion{Tenant: e.Tenant, Cell: e.Cell, Epoch: e.Epoch, Window: window})
		at.to = len(s.text)
		s.signed[key] = at
	}
	return append(dst, s.text[at.from:at.to]...), nil
}
