package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Part is the hidden subcommand that is one process of the benchmark.
const Part = "peers-part"

// RunPart is that process: "origin ADDR", "load SPEC", "handshake SPEC", "hold ADDR N plain|tls",
// "floor PLAIN TLS ORIGIN CERT KEY" or "proxy PLAIN TLS ORIGIN CERT KEY TENANTS". What it found goes to out as JSON.
func RunPart(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "origin":
		return origin(args[1])
	case len(args) == 2 && (args[0] == "load" || args[0] == "handshake"):
		var spec loadSpec
		if err := json.Unmarshal([]byte(args[1]), &spec); err != nil {
			return fmt.Errorf("read the load: %w", err)
		}
		put := generate
		if args[0] == "handshake" {
			put = func(spec loadSpec) (loadResult, error) { return shakeHands(ctx, spec) }
		}
		r, err := put(spec)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(r)
	case len(args) == 4 && args[0] == "hold":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("connections to hold: %w", err)
		}
		return hold(ctx, args[1], n, args[3] == "tls", in, out)
	case len(args) == 6 && args[0] == "floor":
		return serveFloor(ctx, args[1:])
	case len(args) == 7 && args[0] == "proxy":
		return serveReverseProxy(ctx, args[1:])
	}
	return errors.New("not a part of the benchmark; run `loadtest peers`")
}

// hold opens n connections, has a request answered on each, says "held" and keeps
// them until in ends.
func hold(ctx context.Context, addr string, n int, overTLS bool, in io.Reader, out io.Writer) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	request := []byte("GET /b/1 HTTP/1.1\r\nHost: " + host(1) + "\r\n\r\n")
	buf := make([]byte, 4<<10)
	for range n {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("hold connections: %w", err)
		}
		defer conn.Close()
		if overTLS {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: host(1)}) //nolint:gosec // the certificate of this run
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return fmt.Errorf("hold connections: %w", err)
		}
		var f framing
		for whole := false; !whole; {
			read, err := conn.Read(buf)
			if err != nil {
				return fmt.Errorf("hold connections: %w", err)
			}
			if _, whole, err = f.feed(buf[:read]); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(out, "held")
	_, err := io.Copy(io.Discard, in)
	return err
}

// serveReverseProxy is net/http's proxy as one would tune it, with a map of the
// tenants' names.
func serveReverseProxy(ctx context.Context, args []string) error {
	plain, overTLS, originAddr, cert, key := args[0], args[1], args[2], args[3], args[4]
	tenants, err := strconv.Atoi(args[5])
	if err != nil {
		return fmt.Errorf("tenants: %w", err)
	}
	cell := &url.URL{Scheme: "http", Host: originAddr}
	cells := make(map[string]*url.URL, tenants)
	for n := range tenants {
		cells[host(n)] = cell
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(cells[r.In.Host])
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024,
			IdleConnTimeout: 10 * time.Minute, DisableCompression: true, ForceAttemptHTTP2: false,
		},
		BufferPool: &buffers{},
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cells[r.Host] == nil {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute}
	secure := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute}
	ended := make(chan error, 2)
	for _, s := range []struct {
		addr  string
		serve func(net.Listener) error
	}{{plain, server.Serve}, {overTLS, func(ln net.Listener) error { return secure.ServeTLS(ln, cert, key) }}} {
		ln, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		go func() { ended <- s.serve(ln) }()
	}
	select {
	case <-ctx.Done():
		return errors.Join(server.Close(), secure.Close())
	case err := <-ended:
		return errors.Join(err, server.Close(), secure.Close())
	}
}

// serveFloor is what no proxy can be under: over plain TCP a relay that copies bytes, over
// TLS net/http, whose HTTP/2 our router has, with answers of its own that ask nobody.
func serveFloor(ctx context.Context, args []string) error {
	plain, overTLS, originAddr, cert, key := args[0], args[1], args[2], args[3], args[4]
	bodies := bytes.Repeat([]byte("x"), 64<<10)
	server := &http.Server{Addr: overTLS, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/b/")) // 0 of what is no number
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(bodies[:min(size, len(bodies))])
	})}
	ended := make(chan error, 2)
	go func() { ended <- relay(plain, originAddr) }() // ends with the process
	go func() { ended <- server.ListenAndServeTLS(cert, key) }()
	select {
	case <-ctx.Done():
		return server.Close()
	case err := <-ended:
		return errors.Join(err, server.Close())
	}
}

// buffers is a pool in ReverseProxy's form.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
