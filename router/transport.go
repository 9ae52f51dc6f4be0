package router

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cellway/cellway/router/pool"
)

const dialTimeout = 2 * time.Second

func newTransport(l pool.Limits) *http.Transport {
	dialer := &net.Dialer{Timeout: l.Connect, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return l.Files.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, addr) })
		},
		TLSHandshakeTimeout:    l.Connect,
		ResponseHeaderTimeout:  l.Timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        pool.IdleTime,
		MaxIdleConnsPerHost:    l.Requests,
		MaxConnsPerHost:        l.Requests + l.Streams,
		MaxResponseHeaderBytes: pool.MaxHead,
		DisableCompression:     true, // the answer is relayed as it is
	}
	return t
}

// DropIdle implements h1.Keeper. A transport can only close all that are idle.
func (c *cellTransport) DropIdle() int {
	before, _, _, _ := c.limits.Files.Counts()
	c.CloseIdleConnections()
	after, _, _, _ := c.limits.Files.Counts()
	return int(max(before-after, 0)) // others come and go meanwhile: who was told too few asks the next
}

// buffers lends the memory through which answers are copied.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte { return b.pool.Get().(*[bufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}
