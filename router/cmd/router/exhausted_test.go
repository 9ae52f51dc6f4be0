package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
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
	_, err := io.WriteString(c.nc, "POST /t/acme/x HTTP/1.1\r\nHost: cellway.localhost\r\nContent-Length: 2\r\n\r\nhi")
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
