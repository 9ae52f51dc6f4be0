package server_test

import (
	"net/http"
	"net/http/httputil"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/testkit"
)

// A meter says how many bytes the last exchange of a client's was, both ways, heads too.
type meter struct {
	http.RoundTripper
	last int
}

// RoundTrip implements http.RoundTripper.
func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := httputil.DumpRequestOut(r, true)
	if err != nil {
		return nil, err
	}
	resp, err := m.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	in, err := httputil.DumpResponse(resp, true)
	m.last = len(out) + len(in)
	return resp, err
}

// TestAnIdleBeatIsOfOneSize: what a router asks and hears each second while nothing changes
// is the same few bytes, whatever has changed before.
func TestAnIdleBeatIsOfOneSize(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	if err := store.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	record, err := store.Open(t.Context(), url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(record.Close)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	b := serve(t, record, func(o *server.Options) { o.Rollouts = record })
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	m := &meter{RoundTripper: tr}
	c, err := client.New(client.Options{URL: b.URL, Token: b.token(t, token.Router), HTTP: &http.Client{Transport: m}})
	if err != nil {
		t.Fatal(err)
	}
	beat := func(at directory.Version) int {
		t.Helper()
		u, err := c.Poll(t.Context(), directorytest.Actor, at, 0, directory.Report{})
		if err != nil || u.Version != at || u.Head.IsZero() || len(u.Links)+len(u.Routes)+len(u.Cells) > 0 || u.Part != nil {
			t.Fatalf("got %+v, %v, want that nothing is newer than %d", u, err, at)
		}
		return m.last
	}
	const first, changes = 1_000_000, 10_000 // versions of as many digits
	exec(`UPDATE directory.version SET version = $1, oldest = $1`, first)
	want := beat(first)
	if _, err := record.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 10, Incarnation: "db"}); err != nil {
		t.Fatal(err)
	}
	exec(`INSERT INTO directory.changes (version, cell, digest)
	      SELECT $1 + n, 'c1', decode(md5(n::text), 'hex') FROM generate_series(2, $2) n`, first, changes)
	exec(`UPDATE directory.version SET version = $1`, first+changes)
	if u, err := c.Changes(t.Context(), "", first, 0); err != nil || len(u.Links) != changes {
		t.Fatalf("got %d changes, %v", len(u.Links), err)
	}
	if got := beat(first + changes); got != want || want > 2000 {
		t.Errorf("a beat is %d bytes after %d changes, and was %d", got, changes, want)
	}
}
