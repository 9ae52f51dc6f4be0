package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/handover"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/h1"
)

// proofs are the certificates of the router, each nil where it is not configured.
type proofs struct {
	hosts    *certs.Hosts    // for tenants
	identity *certs.Identity // for cells
}

// openCerts reads what the settings name. Files that are not good stop the start.
func openCerts(s settings, tel *telemetry.Telemetry) (p proofs, err error) {
	o := certs.Options{Log: tel.Log}
	if s.TLSHostsDir != "" {
		if p.hosts, err = certs.OpenHosts(s.TLSHostsDir, o); err != nil {
			return p, fmt.Errorf("%sTLS_HOSTS_DIR: %w", prefix, err)
		}
		p.hosts.Register(tel.Registry)
	}
	if s.TLSIdentityDir != "" {
		if p.identity, err = certs.OpenIdentity(s.TLSIdentityDir, certs.RoleRouter, s.ID, o); err != nil {
			return p, fmt.Errorf("%sTLS_IDENTITY_DIR: %w", prefix, err)
		}
		p.identity.Register(tel.Registry)
	}
	return p, nil
}

// tell gives a Router what it must know of its certificates.
func (p proofs) tell(o *router.Options) {
	if p.hosts != nil {
		o.Covering = p.hosts.Covering
	}
}

// trust is how to make TLS to a cell, nil where the router cannot prove itself.
func (p proofs) trust() func(directory.CellID) *tls.Config {
	if p.identity == nil {
		return nil
	}
	return func(id directory.CellID) *tls.Config { return p.identity.ClientConfig(certs.RoleCell, string(id)) }
}

// run keeps the certificates fresh.
func (p proofs) run(g *run.Group) {
	if p.hosts != nil {
		g.Go("certificates for hosts", p.hosts.Run)
	}
	if p.identity != nil {
		g.Go("certificate for cells", p.identity.Run)
	}
}

// An entry is a listener for tenants and who serves it.
type entry struct {
	ln     net.Listener
	server run.Server
}

// listen opens every listener for tenants that is configured.
func listen(ctx context.Context, socks *handover.Sockets, s settings, rt *router.Router, newServer func() run.Server, p proofs, o router.Options, files *h1.Files) ([]entry, error) {
	m := front.NewMetrics(o.Registry)
	var entries []entry
	for _, l := range []struct {
		addr string
		make func() run.Server
	}{
		{s.ListenAddr, newServer},
		{s.TLSListenAddr, func() run.Server { return rt.NewFront(p.hosts, newServer(), m) }},
		{s.H2CListenAddr, func() run.Server { return rt.NewH2C(m) }},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := socks.Listen(ctx, l.addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for tenants: %w", err), closeAll(entries))
		}
		entries = append(entries, entry{o.Guard.Listener(files.Listener(ln)), l.make()})
	}
	return entries, nil
}

func closeAll(entries []entry) error {
	var errs []error
	for _, e := range entries {
		errs = append(errs, e.ln.Close())
	}
	return errors.Join(errs...)
}

func addresses(entries []entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.ln.Addr().String())
	}
	return strings.Join(all, ", ")
}

// serveAll serves every entry until ctx ends, or one of them fails.
func serveAll(ctx context.Context, entries []entry, grace time.Duration) error {
	g := run.NewGroup(ctx)
	errs := make([]error, len(entries)) // a Group drops what comes after its context has ended
	for i, e := range entries {
		g.Go(e.ln.Addr().String(), func(ctx context.Context) error {
			errs[i] = run.ServeWith(ctx, e.ln, e.server, grace)
			return errs[i]
		})
	}
	_ = g.Wait() // one of errs
	return errors.Join(errs...)
}
