package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/h1"
)

const (
	// IdleTime is how long a connection to a cell is kept that nobody uses.
	IdleTime = 90 * time.Second
	// MaxHead bounds the bytes of an answer's head.
	MaxHead = 64 << 10
)

// ErrNoIdentity is why a cell whose address is https cannot be asked.
var ErrNoIdentity = errors.New("the cell wants TLS, and this router has no certificate to show (ROUTER_TLS_IDENTITY_DIR)")

// Upstreams are one cell's connections over our own engine, by its address, which may change.
type Upstreams struct {
	cell   directory.CellID
	limits Limits
	mu     sync.Mutex
	url    string
	one    *h1.Upstream
}

// NewUpstreams makes Upstreams to a cell.
func NewUpstreams(id directory.CellID, l Limits) *Upstreams { return &Upstreams{cell: id, limits: l} }

// At is the connections to the cell at address, where requests go from now on.
func (u *Upstreams) At(address string) (*h1.Upstream, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.url == address && u.one != nil {
		return u.one, nil
	}
	next, err := u.open(address)
	if err != nil {
		return nil, err
	}
	if u.one != nil {
		u.one.Close()
	}
	u.url, u.one = address, next
	return next, nil
}

// Ask asks the cell at address whether it is there, on a connection of its own: those to
// another address, which requests may have by now, stay.
func (u *Upstreams) Ask(ctx context.Context, address string) error {
	one, err := u.open(address)
	if err != nil {
		return err
	}
	defer one.Close()
	return one.Probe(ctx)
}

// Close drops the connections that are idle.
func (u *Upstreams) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.one != nil {
		u.one.Close()
		u.url, u.one = "", nil
	}
}

func (u *Upstreams) open(address string) (*h1.Upstream, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || ports[base.Scheme] == "" {
		return nil, Unavailable(err, "the owning cell's address is not valid")
	}
	host := base.Host
	if base.Port() == "" {
		host = net.JoinHostPort(base.Hostname(), ports[base.Scheme])
	}
	var secure *tls.Config
	if base.Scheme == "https" {
		if u.limits.Trust == nil {
			return nil, Unavailable(ErrNoIdentity, "the owning cell does not answer")
		}
		secure = u.limits.Trust(u.cell)
	}
	return &h1.Upstream{Addr: host, Idle: u.limits.Requests, MaxAge: IdleTime, Dial: u.limits.Connect, TLS: secure, Files: u.limits.Files, Limits: h1.Limits{Head: MaxHead}}, nil
}

// ports are the usual ones of the schemes that a cell's address may have.
var ports = map[string]string{"http": "80", "https": "443"}
