package chaos

import (
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// proxies stand before the directory's database and before what each cell's
// transfer endpoint uses.
type proxies struct {
	mu sync.Mutex
	of map[string]*pgproxy.Proxy
}

func newProxies() *proxies { return &proxies{of: map[string]*pgproxy.Proxy{}} }

// route is stack.Options.Route.
func (p *proxies) route(name, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("database url of %s is malformed", name) // it holds a password
	}
	proxy, err := pgproxy.Listen(u.Host)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[name] = proxy
	return proxy.URL(raw)
}

// before is the proxy before the database of name: "directory", "c1".
func (p *proxies) before(name string) *pgproxy.Proxy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

// disarm takes back every fault that has not struck.
func (p *proxies) disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proxy := range p.of {
		proxy.Disarm()
	}
}

func (p *proxies) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, proxy := range p.of {
		errs = append(errs, proxy.Close())
	}
	return errors.Join(errs...)
}
