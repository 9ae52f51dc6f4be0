package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// tiny is an origin that costs next to nothing and allocates nothing: it answers
// each read that ends a head with the same bytes.
func tiny(tb testing.TB) string {
	tb.Helper()
	answer := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2029 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 250\r\n\r\n" + strings.Repeat("x", 250))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 8<<10)
				for {
					n, err := c.Read(buf)
					if err != nil || !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// fronts are what is compared, each in front of the origin at cell.
func fronts(tb testing.TB, cell string) map[string]string {
	tb.Helper()
	up := &Upstream{Addr: cell}
	tb.Cleanup(up.Close)
	out := &Outgoing{}
	ours := serve(tb, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := up.Forward(w, r, out); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})})
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	std := &http.Server{ReadHeaderTimeout: time.Second, Handler: &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: cell})
			pr.Out.Host = pr.In.Host
		},
		Transport: transport, BufferPool: buffersOfBench{},
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = std.Serve(ln) }()
	tb.Cleanup(func() { _ = std.Close() })
	return map[string]string{"h1": ours, "reverseproxy": ln.Addr().String(), "direct": cell}
}

type buffersOfBench struct{}

var benchBuffers = make(chan []byte, 100)

func (buffersOfBench) Get() []byte {
	select {
	case b := <-benchBuffers:
		return b
	default:
		return make([]byte, 32<<10)
	}
}

func (buffersOfBench) Put(b []byte) {
	select {
	case benchBuffers <- b:
	default:
	}
}

var typicalBytes = []byte(typical)

// exchangeOnce sends one request and reads its answer, without allocating.
func exchangeOnce(tb testing.TB, c net.Conn, buf []byte) {
	if _, err := c.Write(typicalBytes); err != nil {
		tb.Fatal(err)
	}
	for have := 0; ; {
		n, err := c.Read(buf[have:])
		if err != nil {
			tb.Fatal(err)
		}
		have += n
		if end := bytes.Index(buf[:have], []byte("\r\n\r\n")); end > 0 && have == end+4+250 {
			return
		}
	}
}

// BenchmarkRelay is one keep-alive connection's exchanges; cpu-us/op is what the
// process used of both cores, client and origin included: take direct away.
func BenchmarkRelay(b *testing.B) {
	cell := tiny(b)
	all := fronts(b, cell)
	for _, name := range []string{"direct", "h1", "reverseproxy", "h1", "reverseproxy"} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", all[name]) //nolint:noctx // a benchmark's connection to its own machine
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			buf := make([]byte, 8<<10)
			exchangeOnce(b, c, buf)
			b.ReportAllocs()
			cpu := cpuTime(b)
			for b.Loop() {
				exchangeOnce(b, c, buf)
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkRelayLarge is answers of 1 MB.
func BenchmarkRelayLarge(b *testing.B) {
	const size = 1 << 20
	payload := strings.Repeat("x", size)
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.WriteString(w, payload)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(ln) }()
	b.Cleanup(func() { _ = s.Close() })
	all := fronts(b, ln.Addr().String())
	for _, name := range []string{"direct", "h1", "reverseproxy"} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", all[name]) //nolint:noctx // as above
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			from := bufio.NewReaderSize(c, 64<<10)
			b.SetBytes(size)
			cpu := cpuTime(b)
			for b.Loop() {
				if _, err := io.WriteString(c, typical); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(from, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}
