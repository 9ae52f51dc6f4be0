package table

import (
	"slices"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A record is a placement in 16 bytes without a pointer.
type record struct {
	tenant uint64
	packed uint64 // epoch, cell index, state: see the shifts
}

const (
	stateBits = 4
	cellBits  = 16
	epochBits = 64 - stateBits - cellBits

	maxCells = 1 << cellBits
	// maxEpoch allows a tenant a move per millisecond for five hundred years.
	maxEpoch = 1<<epochBits - 1
)

// states are the codes of the placement states, in the file too: append only.
var states = []directory.State{directory.Active, directory.Cutover, directory.Suspended, directory.Deleted}

func newRecord(p directory.Placement, cell int) (record, error) {
	state := slices.Index(states, p.State)
	if p.Tenant <= 0 || p.Epoch <= 0 || p.Epoch > maxEpoch || state < 0 || cell < 0 || cell >= maxCells {
		return record{}, problem.New(problem.Invalid, "tenant %d: placement on cell %q, epoch %d, state %q is not valid",
			p.Tenant, p.Cell, p.Epoch, p.State)
	}
	return record{uint64(p.Tenant), uint64(p.Epoch)<<(cellBits+stateBits) | uint64(cell)<<stateBits | uint64(state)}, nil
}

func (r record) id() directory.TenantID { return directory.TenantID(r.tenant) }
func (r record) epoch() directory.Epoch { return directory.Epoch(r.packed >> (cellBits + stateBits)) }
func (r record) cell() int              { return int(r.packed >> stateBits & (maxCells - 1)) }
func (r record) state() directory.State { return states[r.packed&(1<<stateBits-1)] }

// valid reports whether a record that was read from a file is one.
func (r record) valid(cells int) bool {
	return r.id() > 0 && r.epoch() > 0 && r.cell() < cells && r.stateKnown()
}

func (r record) stateKnown() bool { return int(r.packed&(1<<stateBits-1)) < len(states) }
