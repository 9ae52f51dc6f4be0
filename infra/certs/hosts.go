package certs

import (
	"context"
	"crypto/rand"
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
)

// Default is the name of the pair that is shown to who asks for no host, or for
// one that no certificate covers. Without it such a client gets none.
const Default = "default"

// Hosts are the certificates that a listener shows, by the host that the client
// asks for (SNI): pairs NAME.crt and NAME.key in a directory, tls.crt and tls.key
// being one of them. NAME is for people; which hosts a certificate is for, it
// says itself.
type Hosts struct {
	dir     string
	opts    Options
	current atomic.Pointer[shelf]
	config  *tls.Config
	tickets [][32]byte // the first makes tickets, all open them
	watch   watch
	loads   loads
}

// A shelf is never changed after it is stored.
type shelf struct {
	pairs map[string]*tls.Certificate // by name
	hosts map[string][]string         // names of pairs by host, the best first; "*.example.com" for a wildcard
}

// ticketsEvery is how often the key of session tickets changes, and ticketKeys
// how many are known: who resumes a session has ticketsEvery*(ticketKeys-1) at
// least, and who steals a key reads no more than that.
const (
	ticketsEvery = 6 * time.Hour
	ticketKeys   = 3
)

// errNoPair says that there is nothing to show.
var errNoPair = errors.New("no pair NAME.crt and NAME.key")

// OpenHosts reads the directory. It fails where there is no good certificate at
// all, or where the default is not good; another one that is not good is left out
// and reported: one tenant's domain must not keep a router from starting.
func OpenHosts(dir string, o Options) (*Hosts, error) {
	h := &Hosts{dir: dir, opts: o.withDefaults()}
	h.loads = newLoads("hosts", h.each)
	h.watch = watch{Options: h.opts, paths: h.paths, reload: h.load, each: h.each}
	h.watch.seen = fingerprint(h.paths())
	next, err := h.read(&shelf{})
	if len(next.pairs) == 0 || next.bad(Default, h.pairNames()) {
		return nil, fmt.Errorf("certificates in %s: %w", dir, errors.Join(err, whenEmpty(err)))
	}
	if err != nil {
		h.watch.bad = true
		h.opts.Log.Error("certificate left out", "error", err)
	}
	h.current.Store(next)
	h.config = &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites(), GetCertificate: h.choose, NextProtos: []string{"h2", "http/1.1"},
	}
	h.rotateTickets()
	return h, nil
}

func whenEmpty(err error) error {
	if err == nil {
		return errNoPair
	}
	return nil
}

// Config is how to serve TLS with the certificates. It must not be copied: the
// keys of session tickets change in it.
func (h *Hosts) Config() *tls.Config { return h.config }

// Run keeps the certificates and the keys of session tickets fresh until ctx ends.
func (h *Hosts) Run(ctx context.Context) error {
	tick := time.NewTicker(ticketsEvery)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() { done <- h.watch.run(ctx) }() // ends with ctx; waited for below
	for {
		select {
		case <-tick.C:
			h.rotateTickets()
		case err := <-done:
			return err
		}
	}
}

func (h *Hosts) rotateTickets() {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	h.tickets = append([][32]byte{key}, h.tickets...)
	h.tickets = h.tickets[:min(len(h.tickets), ticketKeys)]
	h.config.SetSessionTicketKeys(h.tickets)
}

// Covering is the name of the certificate that a client which asks for host gets
// first, false where it gets none.
func (h *Hosts) Covering(host string) (string, bool) {
	names := h.current.Load().covering(host)
	if len(names) == 0 {
		return "", false
	}
	return names[0], true
}

// Register shows when the certificates expire, and how loading them went.
func (h *Hosts) Register(reg prometheus.Registerer) {
	h.loads.register(reg)
}

func (h *Hosts) each(tell func(name string, c *x509.Certificate)) {
	for name, pair := range h.current.Load().pairs {
		tell(name, pair.Leaf)
	}
}

// choose implements tls.Config.GetCertificate.
func (h *Hosts) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := h.current.Load()
	names := s.covering(hello.ServerName)
	for _, name := range names {
		if hello.SupportsCertificate(s.pairs[name]) == nil {
			return s.pairs[name], nil
		}
	}
	if len(names) > 0 {
		return s.pairs[names[0]], nil // the handshake says what does not fit
	}
	return nil, nil //nolint:nilnil // then the client is told that the name is not known here
}

// load reads the directory again. A pair that is not good any more serves on as
// it was.
func (h *Hosts) load() error {
	next, err := h.read(h.current.Load())
	if len(next.pairs) == 0 {
		h.loads.count(false)
		return fmt.Errorf("certificates in %s: %w", h.dir, errNoPair)
	}
	h.current.Store(next)
	h.loads.count(err == nil)
	return err
}

func (h *Hosts) read(before *shelf) (*shelf, error) {
	next := &shelf{pairs: map[string]*tls.Certificate{}, hosts: map[string][]string{}}
	var errs []error
	for _, name := range h.pairNames() {
		pair, err := loadPair(h.file(name, ".crt"), h.file(name, ".key"), h.opts.Now())
		if err != nil {
			errs = append(errs, err)
			pair = before.pairs[name]
		}
		if pair != nil {
			next.pairs[name] = pair
		}
	}
	next.index()
	return next, errors.Join(errs...)
}

func (h *Hosts) file(name, ext string) string { return filepath.Join(h.dir, name+ext) }

func (h *Hosts) pairNames() []string {
	var names []string
	entries, _ := os.ReadDir(h.dir) // none where it cannot be read, which is an error by itself
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".crt"); ok && e.Name() != CAFile {
			names = append(names, name)
		}
	}
	return names
}

func (h *Hosts) paths() []string {
	var paths []string
	for _, name := range h.pairNames() {
		paths = append(paths, h.file(name, ".crt"), h.file(name, ".key"))
	}
	return paths
}

// bad reports whether a pair is among names and is not on the shelf.
func (s *shelf) bad(name string, names []string) bool {
	return slices.Contains(names, name) && s.pairs[name] == nil
}

// index says which pairs are for which host: ECDSA first, then what lasts longer.
func (s *shelf) index() {
	for name, pair := range s.pairs {
		for _, host := range pair.Leaf.DNSNames {
			host = strings.ToLower(strings.TrimSuffix(host, "."))
			s.hosts[host] = append(s.hosts[host], name)
		}
		for _, ip := range pair.Leaf.IPAddresses {
			s.hosts[ip.String()] = append(s.hosts[ip.String()], name)
		}
	}
	for _, names := range s.hosts {
		slices.SortFunc(names, func(a, b string) int {
			x, y := s.pairs[a], s.pairs[b]
			switch {
			case isECDSA(x) != isECDSA(y) && isECDSA(x):
				return -1
			case isECDSA(x) != isECDSA(y):
				return 1
			}
			if c := y.Leaf.NotAfter.Compare(x.Leaf.NotAfter); c != 0 {
				return c
			}
			return strings.Compare(a, b)
		})
	}
}

// covering is the names of the pairs for a host, exact before wildcard.
func (s *shelf) covering(host string) []string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if names := s.hosts[host]; len(names) > 0 {
		return names
	}
	if _, parent, ok := strings.Cut(host, "."); ok {
		if names := s.hosts["*."+parent]; len(names) > 0 {
			return names
		}
	}
	if s.pairs[Default] != nil {
		return []string{Default}
	}
	return nil
}
