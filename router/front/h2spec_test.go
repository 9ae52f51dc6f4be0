package front

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// knownToFail are the cases in which net/http does otherwise than h2spec asks, and
// why that is no hole.
var knownToFail = map[string]string{
	"http2/6.5.3/1":   "one SETTINGS frame that sets a value twice is a connection error: nobody but an attacker sends it",
	"http2/8.1.2.2/1": "a Connection field is answered 400 by net/http, not by a reset: no handler sees the request",
	"http2/8.1.2.2/2": "as above, for a TE that is not trailers",
}

// TestH2Spec runs every case of h2spec, the strict ones too, over TLS.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "a body that flow control can hold back")
	}))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Host: "localhost", Path: "/", Timeout: 10 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: true, Insecure: true}
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup // the server's side of each connection: after an error it takes a second
	defer ended.Wait()
	t.Run("cases", func(t *testing.T) {
		for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			runSpec(t, c, g, &ended)
		}
	})
}

func runSpec(t *testing.T, c *config.Config, g *spec.TestGroup, ended *sync.WaitGroup) {
	for i, tc := range append(g.Tests, g.StrictTests...) {
		id := g.ID() + "/" + strconv.Itoa(i+1)
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			c, why := *c, knownToFail[id]
			if why != "" {
				c.Timeout = time.Second // nothing will come
			}
			conn, err := spec.Dial(&c)
			if err != nil {
				t.Fatal(err)
			}
			defer ended.Go(func() {
				_ = conn.Conn.(*tls.Conn).CloseWrite() // it may be closed already
				_, _ = io.Copy(io.Discard, conn.Conn)
				_ = conn.Close()
			})
			err = tc.Run(&c, conn)
			switch {
			case errors.Is(err, spec.ErrSkipped):
				t.Errorf("%s: skipped", tc.Desc)
			case err == nil && why != "":
				t.Errorf("%s: passes, and is listed as %q", tc.Desc, why)
			case err != nil && why == "":
				t.Errorf("%s: %s\n%v", tc.Desc, tc.Requirement, err)
			}
		})
	}
	for _, sub := range g.Groups {
		runSpec(t, c, sub, ended)
	}
}
