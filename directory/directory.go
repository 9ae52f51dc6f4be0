// Package directory is the contract of the record of which cell owns which tenant.
//
// Routers, cells and tools depend on this package and not on how the record is
// kept. [Directory] is implemented by directorytest.Memory (no disk), store.Store
// (Postgres) and client.Client (HTTP); one conformance suite, in directorytest,
// holds all three to the comments below.
package directory

import (
	"context"
	"strings"
	"time"
)

// TenantID is the tenant's number, given once and never used again. It is what
// rows, tokens and tables carry; people use the slug.
type TenantID int64

// CellID names a cell: a lower-case letter, then up to 30 of a-z, 0-9 and "-".
type CellID string

// Epoch grows with each change of owner; it is the fencing token. A cell refuses
// a request that carries a lower epoch than the one it serves, so a router with
// an old table can never write to the wrong place. The first epoch is 1.
type Epoch int64

// Version numbers the states of the table. It grows by one with each change that
// a router has to know, without gaps, in commit order.
type Version int64

// A Placement says which cell owns a tenant.
type Placement struct {
	Tenant TenantID `json:"tenant"`
	Cell   CellID   `json:"cell"`
	Epoch  Epoch    `json:"epoch"`
	State  State    `json:"state"`
}

// State is what a router does with a tenant's requests.
type State string

// The states of a placement.
const (
	Active    State = "active"    // forward
	Cutover   State = "cutover"   // hold: the owner is about to change
	Suspended State = "suspended" // refuse with 403
	Deleted   State = "deleted"   // gone: 404; its number is never given again
)

// A Tenant is one customer: the unit that is placed and moved.
type Tenant struct {
	ID        TenantID  `json:"id"`
	Slug      string    `json:"slug"`            // unique among tenants that are not deleted
	Name      string    `json:"name"`            // for people
	Locality  string    `json:"locality"`        // where the tenant's data may be; "" is anywhere
	Tier      string    `json:"tier"`            // which class of cell serves it; "" is any
	Pinned    bool      `json:"pinned"`          // planners leave it where it is
	Hosts     []string  `json:"hosts,omitempty"` // aliases: host names of its own, sorted
	Placement Placement `json:"placement"`       // the owner
	CreatedAt time.Time `json:"created_at"`

	// Group is anti-affinity: nobody brings two of a group to one cell, but by
	// naming the cell; "" is none. It parts nobody who is together already.
	Group string `json:"group,omitempty"`
	// PauseBudget is how long planned moves may make it wait within a day; 0 is as
	// long as it takes.
	PauseBudget time.Duration `json:"pause_budget,omitempty"` // in ns
}

// NewTenant is what is asked for when a tenant is created.
type NewTenant struct {
	Slug     string   `json:"slug"`
	Name     string   `json:"name,omitempty"`
	Locality string   `json:"locality,omitempty"`
	Tier     string   `json:"tier,omitempty"`
	Hosts    []string `json:"hosts,omitempty"`
	Cell     CellID   `json:"cell,omitempty"` // where to place it; "" lets the policy choose

	Group       string        `json:"group,omitempty"`        // of tenants that stay apart; see Tenant
	PauseBudget time.Duration `json:"pause_budget,omitempty"` // in ns, within a day; see Tenant
}

// A Cell is one self-contained copy of the stack.
type Cell struct {
	ID          CellID    `json:"id"`
	State       CellState `json:"state"`
	Address     string    `json:"address"`         // base URL of its tenant listener, e.g. http://127.0.0.1:7101
	Admin       string    `json:"admin,omitempty"` // base URL of its admin listener
	Locality    string    `json:"locality,omitempty"`
	Tier        string    `json:"tier,omitempty"`
	Capacity    int       `json:"capacity"`              // tenants it is sized for; > 0
	Tenants     int       `json:"tenants"`               // tenants placed there now; ignored on write
	Incarnation string    `json:"incarnation,omitempty"` // identity of its database's contents
	Healthy     bool      `json:"healthy"`               // heard of within HeartbeatTTL; ignored on write
	SeenAt      time.Time `json:"seen_at"`               // last heartbeat; ignored on write
	Announced   string    `json:"announced,omitempty"`   // the address that the cell itself said last; ignored on write
	Unheard     bool      `json:"unheard,omitempty"`     // see CellRoute; ignored on write
}

// Transfer is the base URL of the cell's transfer endpoint: on the listener for
// tenants where that has TLS, so that both sides prove who they are, and on the
// admin listener elsewhere.
func (c Cell) Transfer() string {
	if strings.HasPrefix(c.Address, "https://") {
		return c.Address
	}
	return c.Admin
}

// CellState is where a cell is in its life.
type CellState string

// The states of a cell. Only a ready, healthy cell gets new tenants; every state
// but retired goes on serving those that it owns.
const (
	Provisioning CellState = "provisioning" // registered, not yet ready
	Ready        CellState = "ready"
	Cordoned     CellState = "cordoned"   // no new tenants
	Draining     CellState = "draining"   // cordoned, and its tenants are being moved off
	Drained      CellState = "drained"    // cordoned and empty
	Quarantine   CellState = "quarantine" // holds only tenants that were sent there by name
	Retired      CellState = "retired"    // gone; the id may not come back with another database
)

// HeartbeatTTL is how long a cell or router counts as alive after it was heard of.
const HeartbeatTTL = 10 * time.Second

// A Claim is global ownership of a name. Slugs and hosts are claims that the
// directory takes itself; other kinds (login, key id) are the callers'.
type Claim struct {
	Kind   string   `json:"kind"` // "slug", "host", "login", ...
	Name   string   `json:"name"`
	Tenant TenantID `json:"tenant"`
}

// A Route is what a router must know of one tenant.
type Route struct {
	Placement
	Slug  string   `json:"slug"`
	Hosts []string `json:"hosts,omitempty"`
}

// A CellRoute is what a router must know of one cell. Unheard says that the record is in
// another database than before (a backup, a promoted standby) and that the cell has not
// said since where it is: who knows an address keeps it.
type CellRoute struct {
	ID      CellID    `json:"id"`
	Address string    `json:"address"`
	State   CellState `json:"state"`
	Unheard bool      `json:"unheard,omitempty"`
}

// An Update brings a table from version Since to Version. A snapshot is an Update
// with Since 0 that holds everything. Routes in it are whole and current as of
// Version; a deleted tenant is a Route in state Deleted, a removed cell a
// CellRoute in state Retired. Head is the chain's at Version, and Links are the
// changes after Since, one for each version and in their order; a snapshot has
// none: see Continues. Part, unless nil, is a router's new part in a roll-out: only
// Poll brings it.
type Update struct {
	Since   Version     `json:"since"`
	Version Version     `json:"version"`
	Head    Head        `json:"head,omitzero"`
	Cells   []CellRoute `json:"cells,omitempty"`
	Routes  []Route     `json:"routes,omitempty"`
	Links   []Link      `json:"links,omitempty"`
	Part    *Part       `json:"part,omitempty"`
}

// A RouterStatus is the newest version that a router said it serves.
type RouterStatus struct {
	ID     string    `json:"id"`
	Acked  Version   `json:"acked"`
	SeenAt time.Time `json:"seen_at"`
	Live   bool      `json:"live"` // heard of within HeartbeatTTL
}

// Watermark is the newest version that every live router has acknowledged, with
// who they are and what the directory itself has.
type Watermark struct {
	Version   Version        `json:"version"`   // the directory's own
	Watermark Version        `json:"watermark"` // Version where no router lives
	Routers   []RouterStatus `json:"routers"`
}

// An AuditEntry is one mutation: who did what to what.
type AuditEntry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`            // see WithActor
	Action  string    `json:"action"`           // "tenant.create", "cell.state", ...
	Subject string    `json:"subject"`          // "tenant/17", "cell/c1"
	Before  string    `json:"before,omitempty"` // JSON
	After   string    `json:"after,omitempty"`  // JSON
}

// A Directory is the record of which cell owns which tenant.
//
// Every mutation commits with its audit line, and, if routers have to know it
// (a Route or a CellRoute differs), with exactly one new Version. What only says
// that somebody is alive, or asks for what is so already, is no mutation. Every
// method honours ctx. Errors are problem.Errors: NotFound where the subject does
// not exist, Invalid where the input breaks a rule of this package, Conflict
// where the stored state does not allow the step, as with any change to a
// deleted tenant; then nothing has changed.
type Directory interface {
	Cells
	Tenants
	Claims
	Keys
	Feed
	Moves
	Rehearsals
	Failover
	Loads
	Deletions
}

// Cells is the part of a Directory that keeps the cells.
type Cells interface {
	// AddCell registers a cell. The same cell with the same incarnation may be
	// registered again (it updates address, admin, locality, tier and capacity; the
	// address only where it is another than the cell said before: a roll-out may have
	// changed it since); its state is kept. With another incarnation it is a Conflict: another database must
	// not take over a cell's tenants. A cell that was registered without one takes the
	// first that is named. Who names none is not the cell, which knows its database: only
	// with an incarnation does it count as a heartbeat.
	// A new cell starts in the state asked for, Ready where none is.
	AddCell(ctx context.Context, c Cell) (Cell, error)
	// Heartbeat says that the cell is alive. Conflict where incarnation differs,
	// NotFound also where the cell is Unheard: it has to register again.
	Heartbeat(ctx context.Context, id CellID, incarnation string) error
	// Cell is one cell, retired or not.
	Cell(ctx context.Context, id CellID) (Cell, error)
	// ListCells is all cells that are not retired, by id.
	ListCells(ctx context.Context) ([]Cell, error)
	// SetCellState takes a cell from its state to another that CanBecome allows.
	// Setting the state that it has is no error and no change. Conflict for
	// Drained and Retired while it owns a tenant or a move needs it (see Moves).
	SetCellState(ctx context.Context, id CellID, to CellState) (Cell, error)
	// RemoveCell is SetCellState to Retired. With lost, which says that the cell's
	// database is gone for good, moves keep it no longer, and can be asked again:
	// those not decided are cancelled, those whose watch it had are completed, and
	// movers ask nothing of a Retired cell.
	RemoveCell(ctx context.Context, id CellID, lost bool) error
}

// Tenants is the part of a Directory that keeps the tenants and their placements.
type Tenants interface {
	// CreateTenant claims the slug and the hosts and places the tenant at epoch 1,
	// all or nothing. Conflict where a name is taken or no cell may take it: unless
	// it is named, a cell with a tenant of the same Group, or one on its way there,
	// may not; and where there would be more than Quotas allow.
	CreateTenant(ctx context.Context, t NewTenant) (Tenant, error)
	// Tenant finds a tenant by its slug or, in decimal, its id. A deleted tenant
	// is found by id only.
	Tenant(ctx context.Context, ref string) (Tenant, error)
	// ListTenants is a page of the filter's tenants that are not deleted, by id, after
	// the id given. limit is 1 to 1000.
	ListTenants(ctx context.Context, of TenantFilter, after TenantID, limit int) ([]Tenant, error)
	// UpdateTenant changes what Change names and nothing else.
	UpdateTenant(ctx context.Context, id TenantID, change Change) (Tenant, error)
	// DeleteTenant releases the tenant's claims and ends its placement with a new
	// epoch. Its cells hear of it and purge it after a grace (see Deletions); a move
	// that watches is Completed: there is no way back any more. Deleting it again is
	// no error and no change. Conflict while a move of the tenant is under way (see Moves).
	DeleteTenant(ctx context.Context, id TenantID) error
	// Place changes the owner or the state of a placement. It succeeds only if the
	// stored epoch is still p.Epoch-1; otherwise nothing changes and the error is
	// Conflict, as it is where the cell is drained or retired or a move of the tenant
	// has not ended. Only Active and Cutover may be set this way; a suspended tenant is
	// placed and stays suspended.
	Place(ctx context.Context, p Placement) error
}

// Change names what UpdateTenant changes; nil leaves a thing as it is.
type Change struct {
	Suspended *bool     `json:"suspended,omitempty"`
	Pinned    *bool     `json:"pinned,omitempty"`
	Hosts     *[]string `json:"hosts,omitempty"` // the whole new set
	Name      *string   `json:"name,omitempty"`

	Group       *string        `json:"group,omitempty"`        // "" is none
	PauseBudget *time.Duration `json:"pause_budget,omitempty"` // in ns; 0 is none
}

// Claims is the part of a Directory that keeps names unique across all cells.
type Claims interface {
	// TakeClaim makes c.Tenant the owner of the name. Taking what one has already
	// is no error; what another has is a Conflict: of two takers at once exactly
	// one succeeds. Kinds slug and host are Invalid here (see CreateTenant).
	TakeClaim(ctx context.Context, c Claim) error
	// ReleaseClaim gives the name back. Not being its owner is NotFound; kinds
	// slug and host are Invalid.
	ReleaseClaim(ctx context.Context, c Claim) error
	// FindClaim says who owns a name.
	FindClaim(ctx context.Context, kind, name string) (Claim, error)
}

// Feed is the part of a Directory that routers follow.
type Feed interface {
	// Snapshot is the whole table, as one consistent Update.
	Snapshot(ctx context.Context) (Update, error)
	// Changes waits until the table is newer than since, then brings it up to
	// date; when wait is over first, it returns an empty Update at since, which
	// says no more than the head: the same few bytes with each beat. router,
	// unless "", acknowledges that it serves since and counts as its heartbeat.
	// Gone where since is too old, or too far behind, to continue from, or newer than the table:
	// start again from Snapshot, which holds no deleted tenant and no retired cell. Where a
	// router serves what is newer the record was restored: the table's version is above that
	// from now on, by MarginVersions, which ErrLifted says within the directory's process. Only
	// within LiftWithin, not twice within LiftPause, not where it is FarVersions away, nor where
	// the record has no tenant.
	Changes(ctx context.Context, router string, since Version, wait time.Duration) (Update, error)
	// Watermark says how far the routers are.
	Watermark(ctx context.Context) (Watermark, error)
	// Audit is a page of audit lines with an id above after, oldest first;
	// subject "" is all. limit is 1 to 1000. Lines that have been kept for long enough are gone.
	Audit(ctx context.Context, subject string, after int64, limit int) ([]AuditEntry, error)
	// NewestAudit is the same from the other end: lines with an id below before (0: all), newest first.
	NewestAudit(ctx context.Context, subject string, before int64, limit int) ([]AuditEntry, error)
}
