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
// of a tenant's requests only the first in each second waits for cryptography. What it
// keeps has as many places as it has from the start: two tenants of one place, in one second,
// take it from each other, and a router of many tenants does not grow with them.
type Assertions struct {
	Keys   token.Keys
	shards [64]assertionShard
}

type assertionShard struct {
	mu      sync.Mutex
	signers map[directory.CellID]*cellSigner // each cell has keys of its own
	places  [256]asserted
}

type cellSigner struct {
	cell directory.CellID // not the table's memory, which another table takes the place of
	*token.Signer
}

// asserted is an assertion that was signed.
type asserted struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	window int64
	cell   directory.CellID
	text   []byte // used again
}

// Of is the assertion for a request to e at now.
func (a *Assertions) Of(e table.Entry, now time.Time) (string, error) {
	b, err := a.AppendTo(make([]byte, 0, 192), e, now)
	return string(b), err
}

// AppendTo appends the assertion for a request to e at now to dst.
func (a *Assertions) AppendTo(dst []byte, e table.Entry, now time.Time) ([]byte, error) {
	n, window := uint64(e.Tenant), now.Unix() //nolint:gosec // any spread will do
	s := &a.shards[n%uint64(len(a.shards))]
	p := &s.places[n/uint64(len(a.shards))%uint64(len(s.places))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.tenant != e.Tenant || p.window != window || p.epoch != e.Epoch || p.cell != e.Cell {
		signer, err := a.signer(s, e.Cell)
		if err != nil {
			return dst, err
		}
		p.tenant, p.epoch, p.window, p.cell = e.Tenant, e.Epoch, window, signer.cell
		p.text = signer.AppendAssert(p.text[:0], token.Assertion{Tenant: e.Tenant, Cell: e.Cell, Epoch: e.Epoch, Window: window})
	}
	return append(dst, p.text...), nil
}

// signer is the shard's for a cell.
func (a *Assertions) signer(s *assertionShard, cell directory.CellID) (*cellSigner, error) {
	if one := s.signers[cell]; one != nil {
		return one, nil
	}
	signer, err := a.Keys.For(token.OfCell(cell)).NewSigner()
	if err != nil {
		return nil, err
	}
	if s.signers == nil {
		s.signers = map[directory.CellID]*cellSigner{}
	}
	one := &cellSigner{directory.CellID(strings.Clone(string(cell))), signer}
	s.signers[one.cell] = one
	return one, nil
}
