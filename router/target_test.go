package router_test

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
)

// TestTargetsReachTheCellAsTheyAre: what the policy looked at is what the cell
// reads, to the byte: our engine neither cleans a path nor reads a query (X15, X16).
func TestTargetsReachTheCellAsTheyAre(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http's writes some bytes anew, as | in a path")
	}
	seen := make(chan string, 1)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.RequestURI + strings.Join(r.Header["Cookie"], "|")
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": cell}, nil)
	c := &attacker{tb: t, addr: w.addr}
	defer c.close()
	sees := func(tb interface{ Fatalf(string, ...any) }, target string) {
		status := c.send("GET " + target + " HTTP/1.1\r\nHost: acme." + base + "\r\n\r\n")
		if status != http.StatusOK {
			if len(seen) > 0 || status >= 500 || status < 400 {
				tb.Fatalf("got %d of %q", status, target)
			}
			return // refused, and no cell was asked
		}
		if got := <-seen; got != target {
			tb.Fatalf("the cell saw %q of %q", got, target)
		}
	}
	sees(t, "/v1/x?"+strings.Repeat("a=1;b&", 2000))
	sees(t, "/v1/x?"+strings.Repeat("&", 5000)+strings.Repeat(";", 5000)+"a") // 10,001 parameters, however they are told apart
	if cookies := strings.Repeat(";", 9_999) + "a"; c.send("GET /c HTTP/1.1\r\nHost: acme."+base+"\r\nCookie: "+cookies+"\r\n\r\n") != http.StatusOK || <-seen != "/c"+cookies {
		t.Error("the cell did not see 10,000 cookies as they were sent")
	}
	piece := rapid.SampledFrom([]string{"/", "//", ".", "..", "%2e", "%2F", "%252f", ";", "=", "a", "B", "\\", "%5c", "?", "&", "+", "|", "'", "~", ":", "@", "t", "acme", "bolt", "%00", "*"})
	rapid.Check(t, func(rt *rapid.T) {
		sees(rt, "/"+strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(rt, "target"), ""))
	})
}
