package run

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// Reserve is ln with n descriptors kept back for its connections, so that
// operators get in when the process is out of files.
func Reserve(ln net.Listener, n int) net.Listener {
	r := &reserve{Listener: ln, most: n}
	r.refill()
	return r
}

type reserve struct {
	net.Listener
	most int

	mu    sync.Mutex
	spare []*os.File // open, so that nobody else has their descriptors
}

// Accept implements net.Listener.
func (r *reserve) Accept() (net.Conn, error) {
	for {
		nc, err := r.Listener.Accept()
		switch {
		case err == nil:
			return &reserved{Conn: nc, of: r}, nil
		case !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || !r.lend():
			return nil, err
		}
	}
}

// lend frees a descriptor; false where none is left.
func (r *reserve) lend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spare) == 0 {
		return false
	}
	last := len(r.spare) - 1
	_ = r.spare[last].Close() // a file that nothing was written to
	r.spare = r.spare[:last]
	return true
}

// refill takes descriptors back, as far as there are some.
func (r *reserve) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.spare) < r.most {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // with the next connection that ends
		}
		r.spare = append(r.spare, f)
	}
}

// Close implements net.Listener.
func (r *reserve) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = 0
	for _, f := range r.spare {
		_ = f.Close() // as above
	}
	r.spare = nil
	return r.Listener.Close()
}

type reserved struct {
	net.Conn
	of   *reserve
	once sync.Once
}

// Close implements net.Conn.
func (c *reserved) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.of.refill)
	return err
}
