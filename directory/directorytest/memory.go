// Package directorytest has what tests of and with a Directory need: [Memory], a
// Directory without a disk, and the conformance suites ([Run], [RunMoves],
// [RunMembership], [RunLeaser]) that hold every implementation to the comments of
// the contract.
package directorytest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// Memory is a Directory that lives and dies with the process. One mutex orders
// everything, which makes it the plain statement of what the others must do.
type Memory struct {
	// Now is the clock; replace it before the first call to move time by hand.
	Now func() time.Time
	// Keep is how many versions Changes can continue from; 0 is all of them.
	Keep int
	// Quotas bound CreateTenant; set them before the first call.
	Quotas directory.Quotas
	// Grace is how long what is deleted is kept; 0 is directory.DefaultGrace.
	Grace time.Duration

	mu      sync.Mutex
	cells   map[directory.CellID]directory.Cell
	tenants map[directory.TenantID]*record
	slugs   map[string]directory.TenantID
	claims  map[name]directory.TenantID
	routers map[string]*router
	audit   []directory.AuditEntry
	moves   []directory.Move           // oldest first
	tried   []directory.Rehearsal      // oldest first
	told    map[directory.CellID]int64 // each cell's witness
	loads   map[directory.CellID][]directory.TenantLoad
	log     []logged // log[i] is what version i+1 changed
	genesis directory.Head
	oldest  directory.Version // that Changes can continue from: see lift
	lifted  time.Time
	home    time.Time                                 // since when the record is in its database; set by the first call
	deleted map[directory.TenantID]directory.Deletion // Due is set where it is read, and retired cells are left out
	held    map[held]bool
	hurried map[directory.TenantID]time.Time
	lastID  directory.TenantID // that was given
	newer   chan struct{}      // closed and replaced with each version

	credentials
}

// A record is a tenant and what its placement would be were it not suspended.
type record struct {
	directory.Tenant
	owned     directory.State
	suspended bool
	creator   string
}

// An entry says what one version changed: a tenant or, where that is 0, a cell.
type entry struct {
	tenant directory.TenantID
	cell   directory.CellID
}

// A logged entry has what it left its subject as, and the chain's head after it.
type logged struct {
	entry
	digest directory.Digest
	head   directory.Head
}

type name struct{ kind, name string }

// NewMemory makes an empty Directory.
func NewMemory() *Memory {
	return &Memory{
		Now:     time.Now,
		cells:   map[directory.CellID]directory.Cell{},
		told:    map[directory.CellID]int64{},
		loads:   map[directory.CellID][]directory.TenantLoad{},
		deleted: map[directory.TenantID]directory.Deletion{},
		held:    map[held]bool{},
		hurried: map[directory.TenantID]time.Time{},
		tenants: map[directory.TenantID]*record{},
		slugs:   map[string]directory.TenantID{},
		claims:  map[name]directory.TenantID{},
		routers: map[string]*router{},
		newer:   make(chan struct{}),
		genesis: newGenesis(),

		credentials: credentials{keys: map[string]*keyRecord{}, tokens: map[string]*tokenRecord{}, newest: 1, head: newGenesis()},
	}
}

// newGenesis is a head that no other record has.
func newGenesis() (h directory.Head) {
	_, _ = rand.Read(h[:]) // never fails (crypto/rand)
	return h
}

var _ directory.Directory = (*Memory)(nil)

// lock begins a method: it fails where ctx has ended. The caller unlocks.
func (m *Memory) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.home.IsZero() {
		m.home = m.Now()
	}
	return nil
}

// Restored makes the record, as it is, that of another database than before: of a backup, or
// of a standby that was promoted.
func (m *Memory) Restored() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.home = m.Now()
	for id, c := range m.cells {
		c.Unheard = c.State != directory.Retired
		m.cells[id] = c
	}
}

// version is the newest version.
func (m *Memory) version() directory.Version { return directory.Version(len(m.log)) }

// publish makes a new version that changed e and wakes who waits for it.
func (m *Memory) publish(e entry) {
	l := logged{entry: e}
	if e.tenant != 0 {
		l.digest = m.tenants[e.tenant].Route().Digest()
	} else {
		l.digest = m.cells[e.cell].Route().Digest()
	}
	l.head = m.head(m.version()).After(m.version()+1, l.digest)
	m.log = append(m.log, l)
	m.wake()
}

// head is the chain's at a version.
func (m *Memory) head(v directory.Version) directory.Head {
	if v == 0 {
		return m.genesis
	}
	return m.log[v-1].head
}

func (m *Memory) wake() {
	close(m.newer)
	m.newer = make(chan struct{})
}

// note writes the audit line of a mutation; before and after may be nil.
func (m *Memory) note(ctx context.Context, action, subject string, before, after any) {
	m.audit = append(m.audit, directory.AuditEntry{
		ID: int64(len(m.audit)) + 1, At: m.Now().UTC(), Actor: directory.Actor(ctx),
		Action: action, Subject: subject, Before: text(before), After: text(after),
	})
}

func text(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own structs always marshal
	}
	return string(b)
}
