package pgproxy_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

// TestSlow: from the statement that was meant on every connection is slow, there and back; then
// it is quick again. Nothing is lost of what passes meanwhile.
func TestSlow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first, second := connect(t, b.url), connect(t, b.url)
	const latency = 30 * time.Millisecond
	fired := b.Arm(pgproxy.Fault{Kind: pgproxy.Slow, Nth: 2, Stall: time.Hour, Pace: pgproxy.Pace{Latency: latency, Jitter: latency, Rate: 1 << 20, Seed: 1}})
	insert := func(c *pgx.Conn, n int) time.Duration {
		t.Helper()
		began := time.Now()
		if _, err := c.Exec(t.Context(), `INSERT INTO public.t VALUES ($1)`, pgx.QueryExecModeSimpleProtocol, n); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	insert(first, 1)
	hit(t, fired, false)
	for n, c := range []*pgx.Conn{first, second} {
		if took := insert(c, 2+n); took < 2*latency {
			t.Errorf("connection %d took %v, want at least %v", n, took, 2*latency)
		}
		hit(t, fired, true)
	}
	b.Disarm()
	if _, err := first.CopyFrom(t.Context(), pgx.Identifier{"public", "t"}, []string{"n"}, pgx.CopyFromRows([][]any{{4}, {5}})); err != nil {
		t.Fatal(err)
	}
	b.want(t, 5)
}

// TestSlowOfAnyProtocol: what the proxy cannot read it can slow down, and passes on as it is, until
// either side ends it.
func TestSlowOfAnyProtocol(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := pgproxy.ListenOpaque(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const latency = 30 * time.Millisecond
	fired := p.Arm(pgproxy.Fault{Kind: pgproxy.Slow, Commits: true, Stall: time.Hour, Pace: pgproxy.Pace{Latency: latency}})
	url, err := p.URL("http://" + server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	said := bytes.Repeat([]byte("not a message of Postgres\n"), 10_000)
	began := time.Now()
	go func() { _, _ = client.Write(said) }() // what is read tells
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(far, heard); err != nil || !bytes.Equal(heard, said) {
		t.Errorf("what was said is not what was heard: %v", err)
	}
	if took := time.Since(began); took < latency {
		t.Errorf("it took %v, want at least %v", took, latency)
	}
	hit(t, fired, true)
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the server has ended the connection, and the client does not learn of it")
	}
}
