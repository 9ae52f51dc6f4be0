package h1

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

// A gathering sends what was written to it when it is told to.
type gathering struct {
	net.Conn
	out     []byte
	gathers bool
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.gathers {
		g.out = append(g.out, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// TestARecordThatNobodyAskedFor comes with an answer's, so that crypto/tls has it when the
// connection is kept: it is no answer to the next request.
func TestARecordThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		certified := httptest.NewTLSServer(nil)
		t.Cleanup(certified.Close)
		trusting := x509.NewCertPool()
		trusting.AddCert(certified.Certificate())
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					g := &gathering{Conn: nc}
					c := tls.Server(g, &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS13})
					defer func() { _ = c.Close() }()
					buf := make([]byte, 8<<10)
					for {
						n, err := c.Read(buf)
						if err != nil {
							return
						}
						_, path, _ := bytes.Cut(buf[:n], []byte(" /"))
						answer := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nown-" + string(path[:1])
						g.gathers = true
						for _, record := range []string{answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnobod"} {
							if _, err := c.Write([]byte(record)); err != nil {
								return
							}
						}
						g.gathers = false
						if _, err := nc.Write(g.out); err != nil {
							return
						}
						g.out = nil
					}
				}()
			}
		}()
		_, _, addr := flown(t, loops, nil, func(s *Server) {
			up := s.Direct.(*directly).up
			up.Addr, up.TLS = ln.Addr().String(), &tls.Config{RootCAs: trusting, ServerName: "example.com", MinVersion: tls.VersionTLS13}
		})
		c := dial(t, addr)
		c.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
		c.send("GET /b HTTP/1.1\r\nHost: a\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got := c.ends()
		for _, want := range []string{"own-a", "own-b", "own-c"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %q", want, got)
			}
		}
		if strings.Contains(got, "nobod") {
			t.Errorf("got %q", got)
		}
	})
}
