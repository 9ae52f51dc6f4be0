package stack

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/cellway/cellway/infra/local"
)

// keyBytes is the length of a signing key: that of HMAC-SHA256's output.
const keyBytes = 32

// A plan is what stays the same from one start to the next: secrets and ports.
type plan struct {
	TokenKeys     string            `json:"token_keys"`
	AssertionKeys string            `json:"assertion_keys"`
	Passwords     map[string]string `json:"passwords"`      // by the name of what they protect
	Tokens        map[string]string `json:"tokens_of_kind"` // by subject
	Ports         map[string]int    `json:"ports"`          // by the name of the listener

	mu   sync.Mutex
	path string
	used map[int]bool // in this run
}

// openPlan reads the plan of dir or makes a new one.
func openPlan(dir string) (*plan, error) {
	p := &plan{
		path: filepath.Join(dir, "plan.json"), used: map[int]bool{},
		Passwords: map[string]string{}, Tokens: map[string]string{}, Ports: map[string]int{},
	}
	err := readJSON(p.path, p)
	if err == nil {
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p.TokenKeys, p.AssertionKeys = newKey("token-1"), newKey("assertion-1")
	return p, p.save()
}

func (p *plan) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return writeJSON(p.path, p)
}

// newKey makes a signing key in the form "id:base64".
func newKey(id string) string {
	b := make([]byte, keyBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return id + ":" + base64.StdEncoding.EncodeToString(b)
}

// password is the remembered password of name, or a new one.
func (p *plan) password(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Passwords[name] == "" {
		var b [18]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		p.Passwords[name] = hex.EncodeToString(b[:])
	}
	return p.Passwords[name]
}

// port is the remembered port of name if it is free, else another one.
func (p *plan) port(name string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.Ports[name]
	for !p.free(port) {
		var err error
		if port, err = local.FreePort(); err != nil {
			return 0, err
		}
	}
	p.Ports[name], p.used[port] = port, true
	return port, nil
}

// exactPort gives name this port or none.
func (p *plan) exactPort(name string, port int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.free(port) {
		return fmt.Errorf("port %d is in use: choose another with --port", port)
	}
	p.Ports[name], p.used[port] = port, true
	return nil
}

func (p *plan) free(port int) bool { return port != 0 && !p.used[port] && local.PortFree(port) }
