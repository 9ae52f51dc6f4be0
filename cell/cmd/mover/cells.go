package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/telemetry"
)

// openIdentity reads the certificate of the mover, nil where there is none.
func openIdentity(cfg Config, tel *telemetry.Telemetry) (*certs.Identity, error) {
	if cfg.TLSIdentityDir == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	id, err := certs.OpenIdentity(cfg.TLSIdentityDir, certs.RoleMover, cfg.ID, certs.Options{Log: tel.Log})
	if err != nil {
		return nil, fmt.Errorf("%sTLS_IDENTITY_DIR: %w", prefix, err)
	}
	id.Register(tel.Registry)
	return id, nil
}

// cells makes clients of cells, with connections of its own for each: a cell must
// prove that it is the one that is meant.
type cells struct {
	cfg Config
	id  *certs.Identity // nil: cells with https addresses cannot be called
	mu  sync.Mutex
	by  map[directory.CellID]*http.Client
}

func newCells(cfg Config, id *certs.Identity) *cells {
	return &cells{cfg: cfg, id: id, by: map[directory.CellID]*http.Client{}}
}

func (c *cells) of(to directory.Cell) mover.Cell {
	return client.New(client.Mover{ID: c.cfg.ID, Keys: c.cfg.keys}, to.ID, to.Transfer(), c.connections(to.ID))
}

// connections have no deadline of their own: each step has one, and a copy takes
// as long as it takes.
func (c *cells) connections(id directory.CellID) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[id] == nil {
		t := &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConnsPerHost: c.cfg.Parallel + mover.RehearsedMost + 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second,
		}
		if c.id != nil {
			t.TLSClientConfig = c.id.ClientConfig(certs.RoleCell, string(id))
		}
		c.by[id] = &http.Client{Transport: t}
	}
	return c.by[id]
}
