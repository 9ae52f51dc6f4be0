package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// The roles that a part's name begins with: spiffe://DOMAIN/ROLE/ID.
const (
	RoleRouter = "router"
	RoleCell   = "cell"
	RoleMover  = "mover"
)

// An Identity is how a part of Cellway proves to another who it is: a
// certificate with a SPIFFE name, its key, and the authorities whose word
// counts, from a directory with CertFile, KeyFile and CAFile.
type Identity struct {
	dir     string
	path    string // of the name: "/role/id"
	opts    Options
	current atomic.Pointer[proof]
	watch   watch
	loads   loads
}

// A proof is never changed after it is stored.
type proof struct {
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

// OpenIdentity reads the directory. The certificate must be of role and id, count
// now, and be one of the authorities' that are trusted.
func OpenIdentity(dir, role, id string, o Options) (*Identity, error) {
	i := &Identity{dir: dir, path: "/" + role + "/" + id, opts: o.withDefaults()}
	i.loads = newLoads("identity", i.each)
	i.watch = watch{Options: i.opts, paths: i.paths, reload: i.load, each: i.each}
	i.watch.seen = fingerprint(i.paths())
	p, err := i.read()
	if err != nil {
		return nil, err
	}
	i.current.Store(p)
	return i, nil
}

// Run keeps the certificate fresh until ctx ends.
func (i *Identity) Run(ctx context.Context) error { return i.watch.run(ctx) }

// Register shows when the certificate expires, and how loading it went.
func (i *Identity) Register(reg prometheus.Registerer) {
	i.loads.register(reg)
}

func (i *Identity) each(tell func(name string, c *x509.Certificate)) {
	p := i.current.Load()
	tell(strings.TrimPrefix(i.path, "/"), p.svid.Certificates[0])
	for n, ca := range p.bundle.X509Authorities() {
		tell(fmt.Sprintf("authority-%d", n+1), ca)
	}
}

// GetX509SVID implements x509svid.Source.
func (i *Identity) GetX509SVID() (*x509svid.SVID, error) { return i.current.Load().svid, nil }

// GetX509BundleForTrustDomain implements x509bundle.Source: only our own domain
// is trusted.
func (i *Identity) GetX509BundleForTrustDomain(d spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return i.current.Load().bundle.GetX509BundleForTrustDomain(d)
}

// ClientConfig is how to call the part that has this role and id, or any of the
// role where id is empty: nobody else is taken for it, whatever the address.
func (i *Identity) ClientConfig(role, id string) *tls.Config {
	want := "/" + role + "/" + id
	c := tlsconfig.MTLSClientConfig(i, i, func(peer spiffeid.ID, _ [][]*x509.Certificate) error {
		is, ok := roleOf(peer)
		if !ok || peer.TrustDomain() != i.domain() || is != role || id != "" && peer.Path() != want {
			return fmt.Errorf("the certificate is of %s, not of %s%s", peer, i.domain().IDString(), want)
		}
		return nil
	})
	c.MinVersion, c.CipherSuites = tls.VersionTLS12, suites()
	return c
}

// ServerConfig is how to serve the parts that have one of the roles. There are no
// session tickets: with one, a certificate that has expired would still open a
// connection.
func (i *Identity) ServerConfig(roles ...string) *tls.Config {
	c := tlsconfig.MTLSServerConfig(i, i, func(peer spiffeid.ID, _ [][]*x509.Certificate) error {
		role, ok := roleOf(peer)
		if !ok || peer.TrustDomain() != i.domain() || !slices.Contains(roles, role) {
			return fmt.Errorf("%s may not call %s", peer, i.path)
		}
		return nil
	})
	c.MinVersion, c.CipherSuites, c.SessionTicketsDisabled = tls.VersionTLS12, suites(), true
	return c
}

// PeerLeft is how long the certificate goes on counting that a connection was opened with,
// which a ServerConfig has let in: nobody else looks at that after the handshake.
func PeerLeft(s *tls.ConnectionState, now time.Time) time.Duration {
	if s == nil || len(s.PeerCertificates) == 0 {
		return 0
	}
	return s.PeerCertificates[0].NotAfter.Sub(now)
}

// PeerRole is the role of who is at the other end of a connection that a
// ServerConfig has let in, "" for a connection without a certificate.
func PeerRole(s *tls.ConnectionState) string {
	if s == nil || len(s.PeerCertificates) == 0 {
		return ""
	}
	id, err := x509svid.IDFromCert(s.PeerCertificates[0])
	if err != nil {
		return ""
	}
	role, _ := roleOf(id)
	return role
}

// roleOf takes "/role/id" and nothing longer.
func roleOf(id spiffeid.ID) (string, bool) {
	role, rest, ok := strings.Cut(strings.TrimPrefix(id.Path(), "/"), "/")
	return role, ok && rest != "" && !strings.Contains(rest, "/")
}

func (i *Identity) domain() spiffeid.TrustDomain { return i.current.Load().svid.ID.TrustDomain() }

func (i *Identity) file(name string) string { return filepath.Join(i.dir, name) }

func (i *Identity) paths() []string {
	return []string{i.file(CertFile), i.file(KeyFile), i.file(CAFile)}
}

func (i *Identity) load() error {
	p, err := i.read()
	i.loads.count(err == nil)
	if err == nil {
		i.current.Store(p)
	}
	return err
}

// read reads the files. It goes as far as a peer would: who shows what nobody
// accepts had better say so itself.
func (i *Identity) read() (*proof, error) {
	pair, err := loadPair(i.file(CertFile), i.file(KeyFile), i.opts.Now())
	if err != nil {
		return nil, err
	}
	svid, err := x509svid.Load(i.file(CertFile), i.file(KeyFile))
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", i.file(CertFile), err)
	}
	if svid.ID.Path() != i.path {
		return nil, fmt.Errorf("certificate %s: it is of %s, and this is %s", i.file(CertFile), svid.ID, i.path)
	}
	if !svid.Certificates[0].Equal(pair.Leaf) {
		return nil, errors.New("the certificate changed while it was read")
	}
	authorities, err := os.ReadFile(i.file(CAFile))
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	bundle, err := x509bundle.Parse(svid.ID.TrustDomain(), authorities)
	if err != nil || bundle.Empty() {
		return nil, fmt.Errorf("authorities in %s: no certificate that can be read", i.file(CAFile))
	}
	if _, _, err := x509svid.Verify(svid.Certificates, bundle, x509svid.WithTime(i.opts.Now())); err != nil {
		return nil, fmt.Errorf("certificate %s is not of an authority in %s: %w", i.file(CertFile), CAFile, err)
	}
	return &proof{svid: svid, bundle: bundle}, nil
}
