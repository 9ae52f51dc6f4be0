package chaos

import (
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// proxies stand before the directory's database, before what each cell's transfer
// endpoint uses, and before that itself.
type proxies struct {
	mu sync.Mutex
	of map[string]*pgproxy.Proxy
}

func newProxies() *proxies { return &proxies{of: map[string]*pgproxy.Proxy{}} }

// route is stack.Options.Route.
func (p *proxies) route(name, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("url of %s is malformed", name) // it may hold a password
	}
	listen := pgproxy.Listen
	if u.Scheme == "http" {
		listen = pgproxy.ListenOpaque
	}
	proxy, err := listen(u.Host)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[name] = proxy
	return proxy.URL(raw)
}

// before is the proxy before what stack.Options.Route knows as name: "directory", "c1", "c1-link".
func (p *proxies) before(name string) *pgproxy.Proxy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

// disarm takes back every fault that has not struck, or is still under way.
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
