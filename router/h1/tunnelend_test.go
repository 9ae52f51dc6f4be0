package h1

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// overTLS makes TLS of the two ends of a pipe.
func overTLS(t *testing.T, server *tls.Config) (near, far net.Conn) {
	a, b := net.Pipe()
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // this test's certificate
	accepted := tls.Server(a, server)
	shaken := make(chan error, 1)
	go func() { shaken <- accepted.Handshake() }() // waited for below
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return accepted, client
}

// A parting is a connection whose first bytes come with its end.
type parting struct{ net.Conn }

// Read implements io.Reader.
func (p parting) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	return n, cmp.Or(err, io.EOF)
}

// TestATunnelWaitsForNoGoodbyeOfTLS: who takes nothing more, of the client and the cell, has
// no more time for it.
func TestATunnelWaitsForNoGoodbyeOfTLS(t *testing.T) {
	t.Parallel()
	const one, goodbye = "\x81\x03one", "\x88\x80mask"
	moved := Ending{1012, "moved"}
	const told = "\x88\x07\x03\xf4moved"
	s := httptest.NewTLSServer(nil)
	s.Close()
	config := &tls.Config{Certificates: s.TLS.Certificates, SessionTicketsDisabled: true} //nolint:gosec // this test's
	for name, test := range map[string]func(b *bore, began time.Time){
		"a client that reads nothing": func(b *bore, began time.Time) {
			b.says(b.cell, one)
			synctest.Wait()
			b.x.end(moved)
			<-b.over
			if took := time.Since(began); took != frameWait {
				b.t.Errorf("it ended after %v, want %v", took, frameWait)
			}
		},
		"a client that reads nothing of a cell that has left": func(b *bore, began time.Time) {
			b.x.end(moved)
			_ = b.cell.Close()
			<-b.over
			if took := time.Since(began); took != endWait {
				b.t.Errorf("it ended after %v, want %v", took, endWait)
			}
		},
		"a cell that takes nothing": func(b *bore, began time.Time) {
			b.says(b.client, "\x81\x80mask")
			synctest.Wait()
			b.x.end(moved)
			b.hears(b.client, told)
			b.says(b.client, goodbye)
			b.ends(began, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near, client := overTLS(t, config)
				cell, far := overTLS(t, config)
				b := boreOf(t, client, near, cell, far)
				synctest.Wait()
				test(b, time.Now())
				_ = errors.Join(socketOf(client).Close(), socketOf(cell).Close())
			})
		})
	}
}

// TestATunnelIsToldToEndAsItsCellLeaves: the client reads why, all the same.
func TestATunnelIsToldToEndAsItsCellLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, near := net.Pipe()
		cell, far := net.Pipe()
		b := boreOf(t, client, near, cell, parting{far})
		b.says(cell, "\x81\x03one")
		synctest.Wait() // the client takes it later
		b.x.end(Ending{1012, "moved"})
		b.hears(client, "\x81\x03one\x88\x07\x03\xf4moved")
		b.says(client, "\x88\x80mask")
		b.ends(time.Now(), 0)
		_ = errors.Join(client.Close(), cell.Close())
	})
}
