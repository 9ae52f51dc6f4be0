package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestF21OutOfDescriptors: clients open more connections than the router has files
// for. Those who were there first are served on and the newest refused; where the
// bound is set too high, they wait. Either way operators get in, and when the crowd
// leaves, everybody is served again.
func TestF21OutOfDescriptors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine string
		most   int
	}{{"std", 0}, {"h1", 0}, {"loop", 0}, {"std", 10000}, {"h1", 10000}, {"loop", 10000}} {
		t.Run(fmt.Sprintf("%s, %d", tt.engine, tt.most), func(t *testing.T) {
			t.Parallel()
			env, s := loaded(t, echo(t).URL, "ROUTER_ENGINE="+tt.engine, fmt.Sprintf("ROUTER_MAX_CONNECTIONS=%d", tt.most))
			p := launchWith(t, 192, env)
			p.awaitLog("router serves")
			first := make([]*caller, 16)
			for i := range first {
				first[i] = connect(t, s.ListenAddr)
				first[i].ask(t)
			}
			var hoard []*caller
			for range 400 {
				hoard = append(hoard, connect(t, s.ListenAddr))
			}
			if tt.most == 0 {
				last := hoard[len(hoard)-1]
				if _, err := last.r.ReadByte(); err == nil {
					t.Error("the newest was answered, and asked nothing")
				}
			}
			if tt.most == 0 { // else there may be no file for a connection to the cell
				for _, c := range first {
					c.ask(t)
				}
			}
			for range 8 { // each on a connection of its own
				if got := fresh(t, "http://"+s.AdminAddr+"/readyz"); got != http.StatusOK {
					t.Errorf("readyz: got %d", got)
				}
			}
			if tt.most == 0 && !strings.Contains(metrics(t, s.AdminAddr), `router_guard_refused_total{reason="connections"}`) {
				t.Error("nobody counted who was refused")
			}
			for _, c := range hoard {
				_ = c.nc.Close()
			}
			eventually(t, func() bool { return fresh(t, "http://"+s.ListenAddr+"/t/acme/x") == http.StatusOK })
			for _, c := range first {
				c.ask(t)
			}
		})
	}
}

// launchWith is launch of a process that may have so many files open.
func launchWith(t *testing.T, files int, env []string) *process {
	t.Helper()
	sh := exec.Command("/bin/sh", "-c", fmt.Sprintf("ulimit -n %d && exec %q", files, os.Args[0]))
	return launchAs(t, sh, env)
}

// A caller is one connection.
type caller struct {
	nc net.Conn
	r  *bufio.Reader
}

func connect(t *testing.T, addr string) *caller {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // some are closed before
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &caller{nc, bufio.NewReader(nc)}
}

func (c *caller) ask(t *testing.T) {
	t.Helper()
	c.askOf(t, "acme")
}

// askOf asks a tenant.
func (c *caller) askOf(t *testing.T, slug string) {
	t.Helper()
	_, err := io.WriteString(c.nc, "POST /t/"+slug+"/x HTTP/1.1\r\nHost: cellway.localhost\r\nContent-Length: 2\r\n\r\nhi")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(b) != "hi" {
		t.Fatalf("got %d %q (%v), want what was sent", resp.StatusCode, b, err)
	}
}

// fresh is the status at url, asked on a new connection; 0 where none came.
func fresh(t *testing.T, url string) int {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		t.Log(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestF21IdleConnectionsGiveWay: there are more cells than files, and each has
// had a request. The idle connections to others are closed for the next one, and
// no request fails.
func TestF21IdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"std", "h1", "loop"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			env, s := loaded(t, "", "ROUTER_ENGINE="+engine)
			slugs := make([]string, 250)
			for i := range slugs {
				slugs[i] = fmt.Sprintf("t%d", i)
			}
			saveTenants(t, s.TableFile, echo(t).URL, slugs...)
			launchWith(t, 192, env).awaitLog("router serves")
			var clients []*caller
			for range 30 {
				clients = append(clients, connect(t, s.ListenAddr))
			}
			for i, slug := range slugs {
				clients[i%len(clients)].askOf(t, slug)
			}
			open, dropped := metric(t, s.AdminAddr, "router_upstream_connections"), metric(t, s.AdminAddr, "router_upstream_dropped_total")
			if most := metric(t, s.AdminAddr, "router_upstream_connections_max"); open > most || dropped < float64(len(slugs))-most {
				t.Errorf("got %v connections of %v, and %v dropped, after requests to %d cells", open, most, dropped, len(slugs))
			}
		})
	}
}

// TestF21StreamsWantMoreThanThereIs: over one connection of HTTP/2 come more
// requests at once than there may be connections to cells. Those that are one too
// many are told so at once, the others are served, and the cell is not blamed.
func TestF21StreamsWantMoreThanThereIs(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"std", "h1", "loop"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const asked = 200
			release := make(chan struct{})
			cell := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/slow") {
					<-release
				}
			}))
			t.Cleanup(cell.Close)
			h2c := freeAddr(t)
			env, s := loaded(t, cell.URL, "ROUTER_ENGINE="+engine, "ROUTER_H2C_LISTEN_ADDR="+h2c)
			launchWith(t, 192, env).awaitLog("router serves")
			tr := &http.Transport{Protocols: &http.Protocols{}, MaxConnsPerHost: 1}
			tr.Protocols.SetUnencryptedHTTP2(true)
			t.Cleanup(tr.CloseIdleConnections)
			client := &http.Client{Transport: tr, Timeout: time.Minute}
			answers := make(chan string, asked)
			for range asked {
				go func() { answers <- askBy(client, "http://"+h2c+"/t/acme/slow") }() // answered below, all of them
			}
			most := int(metric(t, s.AdminAddr, "router_upstream_connections_max"))
			for range asked - most {
				if got := <-answers; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, `"code":"unavailable"`) {
					t.Errorf("one too many: got %q", got)
				}
			}
			if got := fresh(t, "http://"+s.AdminAddr+"/readyz"); got != http.StatusOK {
				t.Errorf("readyz: got %d", got)
			}
			close(release)
			for range most {
				if got := <-answers; got != "200 " {
					t.Errorf("one of those that had a connection: got %q", got)
				}
			}
			if got := askBy(client, "http://"+h2c+"/t/acme/x"); got != "200 " {
				t.Errorf("the next one: got %q", got)
			}
			if metric(t, s.AdminAddr, `router_cell_circuit_opened_total{cell="c1"}`) != 0 {
				t.Error("the cell was blamed")
			}
		})
	}
}
