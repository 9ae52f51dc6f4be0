package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestX25OperatorsPagesAreNotForTenants: whatever a client asks the tenants'
// listener for, by path, by host or as of a proxy, it gets no page of the admin
// listener, and the router calls no address that the client names.
func TestX25OperatorsPagesAreNotForTenants(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"std", "h1", "loop"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			env, s := loaded(t, echo(t).URL, "ROUTER_ENGINE="+engine)
			launch(t, env).awaitLog("router serves")
			for _, page := range []string{"/metrics", "/explain", "/table", "/readyz", "/livez", "/version", "/debug/pprof/", "/log-level", "/t/acme/../../metrics"} {
				for _, ask := range []string{
					"GET " + page + " HTTP/1.1\r\nHost: cellway.localhost\r\n",
					"GET " + page + " HTTP/1.1\r\nHost: " + s.AdminAddr + "\r\n",
					"POST " + page + "?level=error HTTP/1.1\r\nHost: " + s.AdminAddr + "\r\nContent-Length: 0\r\n",
					"GET http://" + s.AdminAddr + page + " HTTP/1.1\r\nHost: " + s.AdminAddr + "\r\n",
					"GET " + page + " HTTP/1.1\r\nHost: cellway.localhost\r\nX-Forwarded-Host: " + s.AdminAddr + "\r\n",
				} {
					c := connect(t, s.ListenAddr)
					if _, err := fmt.Fprintf(c.nc, "%sConnection: close\r\n\r\n", ask); err != nil {
						t.Fatal(err)
					}
					resp, err := http.ReadResponse(bufio.NewReader(c.nc), nil)
					if err != nil {
						t.Fatal(err)
					}
					b, _ := io.ReadAll(resp.Body) // what there is
					body := string(b)
					for _, word := range []string{"go_goroutines", "goversion", "[+]", "profile", `"version"`} {
						if strings.Contains(body, word) {
							t.Errorf("%q: got %d %q", ask, resp.StatusCode, body)
						}
					}
					if resp.StatusCode == http.StatusOK && !strings.HasPrefix(page, "/t/acme/") && body != `{"service":"cellway","signup":"POST /signup"}`+"\n" {
						t.Errorf("%q: got 200 %q", ask, body)
					}
				}
			}
		})
	}
}
