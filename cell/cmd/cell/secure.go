package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// openIdentity reads the certificate of the cell, nil where there is none.
func (p *process) openIdentity(loops *run.Group) (*certs.Identity, error) {
	if p.cfg.TLSIdentityDir == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	id, err := certs.OpenIdentity(p.cfg.TLSIdentityDir, certs.RoleCell, string(p.cfg.ID), certs.Options{Log: p.tel.Log})
	if err != nil {
		return nil, fmt.Errorf("%sTLS_IDENTITY_DIR: %w", prefix, err)
	}
	id.Register(p.tel.Registry)
	loops.Go("certificate", id.Run)
	return id, nil
}

// serveAPI serves the tenant API: to routers, by TLS, where the cell has a
// certificate. Then movers and other cells find the transfer endpoint here, too.
func (p *process) serveAPI(ctx context.Context, ln net.Listener, api, moves http.Handler, id *certs.Identity) error {
	if id == nil {
		return run.Serve(ctx, ln, api, p.cfg.StopGrace)
	}
	return run.ServeWith(ctx, tls.NewListener(ln, id.ServerConfig(certs.RoleRouter, certs.RoleMover, certs.RoleCell)), &http.Server{
		Handler:           inTime(byRole(api, moves), time.Now),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(p.tel.Log.Handler(), slog.LevelDebug), // strangers at the door must not fill the log
	}, p.cfg.StopGrace)
}

const idleTimeout = 2 * time.Minute

// inTime refuses who comes by a certificate that has ended since the handshake. Nobody who
// has a newer one is refused: before its end a connection that is in use is given up, and
// one that is idle for as long is closed.
func inTime(next http.Handler, now func() time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		left := certs.PeerLeft(r.TLS, now())
		if left < idleTimeout {
			w.Header().Set("Connection", "close")
		}
		if left <= 0 {
			cell.Problem(w, r, problem.New(problem.AssertionRefused, "the certificate that this connection was opened with has ended"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// byRole lets routers ask for tenants, and movers and cells for moves; nobody for
// the other.
func byRole(api, moves http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		role := certs.PeerRole(r.TLS)
		move := strings.HasPrefix(r.URL.Path, transfer.Prefix)
		switch {
		case role == certs.RoleRouter && !move:
			api.ServeHTTP(w, r)
		case (role == certs.RoleMover || role == certs.RoleCell) && move && moves != nil:
			moves.ServeHTTP(w, r)
		default:
			problem.Write(w, problem.New(problem.Unauthenticated, "a %s may not ask for this", role), problem.Where{Source: "cell", Instance: r.URL.Path})
		}
	})
}
