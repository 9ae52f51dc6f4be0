package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cellway/cellway/infra/certs"
)

// A trust gives the processes of a stack their certificates, and keeps them fresh:
// by the development authority of the data directory, whose certificates count for
// an hour. The nil trust is that of a stack without TLS.
type trust struct {
	ca   *certs.CA
	dir  string
	keep func(dir string, r certs.Request)
	stop context.CancelFunc
}

// openTrust opens the authority. Certificates are renewed until close.
func openTrust(ctx context.Context, s *Stack) (*trust, error) {
	t := &trust{dir: filepath.Join(s.opts.Dir, "certs")}
	var err error
	if t.ca, err = certs.OpenCA(filepath.Join(t.dir, "ca")); err != nil {
		return nil, err
	}
	ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx)) // ctx bounds the start only
	t.keep = func(dir string, r certs.Request) {
		s.watchers.Go(func() {
			t.ca.Keep(ctx, dir, r, func(err error) { s.progress("! certificates in %s: %v", dir, err) })
		})
	}
	return t, nil
}

func (t *trust) close() {
	if t != nil {
		t.stop()
	}
}

// file is where clients find whom to trust.
func (t *trust) file() string {
	if t == nil {
		return ""
	}
	return filepath.Join(t.dir, "ca", certs.CAFile)
}

// scheme is how a cell is called.
func (t *trust) scheme() string {
	if t == nil {
		return "http://"
	}
	return "https://"
}

// issue writes a certificate into a directory of the trust's and renews it.
func (t *trust) issue(dir string, r certs.Request) (string, error) {
	dir = filepath.Join(t.dir, dir)
	if err := t.ca.Issue(dir, r); err != nil {
		return "", err
	}
	t.keep(dir, r)
	return dir, nil
}

// identity is the environment with which a process, whose settings have the
// prefix, proves who it is.
func (t *trust) identity(role, id, prefix string) ([]string, error) {
	if t == nil {
		return nil, nil
	}
	dir, err := t.issue(role+"-"+id, certs.Request{Role: role, ID: id, Hosts: []string{"127.0.0.1", "localhost"}})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	return []string{prefix + "TLS_IDENTITY_DIR=" + dir}, nil
}

// router is the environment of a router's listeners and certificates.
func (t *trust) router(r Router) ([]string, error) {
	if t == nil {
		return []string{"ROUTER_LISTEN_ADDR=" + hostOf(r.URL)}, nil
	}
	env, err := t.identity(certs.RoleRouter, r.ID, "ROUTER_")
	if err != nil {
		return nil, err
	}
	hosts, err := t.issue("hosts-"+r.ID, certs.Request{Hosts: []string{"127.0.0.1", "localhost", "cellway.localhost", "*.cellway.localhost"}})
	if err != nil {
		return nil, fmt.Errorf("certificate for the hosts of %s: %w", r.ID, err)
	}
	// Who asks by address names no host, and is shown the default.
	for name, file := range map[string]string{"default.crt": certs.CertFile, "default.key": certs.KeyFile} {
		if err := os.Symlink(file, filepath.Join(hosts, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("certificate for the hosts of %s: %w", r.ID, err)
		}
	}
	return append(env, "ROUTER_LISTEN_ADDR="+hostOf(r.Plain), "ROUTER_TLS_LISTEN_ADDR="+hostOf(r.URL), "ROUTER_TLS_HOSTS_DIR="+hosts), nil
}

// securely is a router as its clients see it: with TLS the URL's listener has it,
// and the plain one another port.
func (s *Stack) securely(r Router) (Router, error) {
	if s.trust == nil {
		return r, nil
	}
	port, err := s.plan.port(r.ID + "-plain")
	if err != nil {
		return r, err
	}
	r.URL, r.Plain = "https://"+hostOf(r.URL), "http://"+loopback(port)
	return r, nil
}
