package router_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/pool"
)

// A secure is a world whose router serves TLS, and whose cells take it only with
// a certificate.
type secure struct {
	*world
	ca       *certs.CA
	hosts    *certs.Hosts
	identity *certs.Identity // the router's
	metrics  *front.Metrics
	dirs     map[string]string // of the parts' certificates, by role/id
}

func newSecure(t *testing.T, cells map[directory.CellID]http.Handler, change ...func(*pool.Limits)) *secure {
	t.Helper()
	s := &secure{dirs: map[string]string{}}
	var err error
	if s.ca, err = certs.OpenCA(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	s.identity = s.part(t, certs.RoleRouter, "r1")
	dir := t.TempDir()
	for name, hosts := range map[string][]string{"wild": {"*." + base, base}, "acme": {"www.acme.com"}} {
		s.pair(t, dir, name, hosts)
	}
	if s.hosts, err = certs.OpenHosts(dir, certs.Options{}); err != nil {
		t.Fatal(err)
	}
	s.world = newWorld(t, nil, func(o *router.Options, l *pool.Limits) {
		o.Covering = s.hosts.Covering
		l.Connect = 20 * time.Second // a handshake may take long here: the race detector, and tests beside this one
		l.Trust = func(id directory.CellID) *tls.Config { return s.identity.ClientConfig(certs.RoleCell, string(id)) }
		for _, f := range change {
			f(l)
		}
	})
	for id, h := range cells {
		s.cell(t, id, s.part(t, certs.RoleCell, string(id)), h)
	}
	s.metrics = front.NewMetrics(s.registry)
	s.listen(s.router.NewFront(s.hosts, s.newServer(), s.metrics))
	return s
}

// cell starts a cell with an identity, under an id, and tells the table.
func (s *secure) cell(t *testing.T, id directory.CellID, who *certs.Identity, h http.Handler) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = tls.NewListener(ln, who.ServerConfig(certs.RoleRouter))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	v := s.table.View().Version()
	s.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: id, Address: "https://" + ln.Addr().String(), State: directory.Ready}}})
}

// part makes an identity, its files in a directory of its own.
func (s *secure) part(t *testing.T, role, id string) *certs.Identity {
	t.Helper()
	dir := t.TempDir()
	s.dirs[role+"/"+id] = dir
	if err := s.ca.Issue(dir, certs.Request{Role: role, ID: id}); err != nil {
		t.Fatal(err)
	}
	i, err := certs.OpenIdentity(dir, role, id, certs.Options{Every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (s *secure) pair(t *testing.T, dir, name string, hosts []string) {
	t.Helper()
	from := t.TempDir()
	if err := s.ca.Issue(from, certs.Request{Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	for ext, file := range map[string]string{".crt": certs.CertFile, ".key": certs.KeyFile} {
		b, err := os.ReadFile(filepath.Join(from, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+ext), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// clientConfig trusts the authority and asks for a name.
func (s *secure) clientConfig(name string, protocols ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca.Authority())
	return &tls.Config{RootCAs: pool, ServerName: name, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// over is a client that has one connection, opened for name.
func (s *secure) over(t *testing.T, name string, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: s.clientConfig(name), ForceAttemptHTTP2: h2, DisableCompression: true}
	if !h2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// ask sends a request by c, to the router whatever the host.
func (s *secure) ask(t *testing.T, c *http.Client, method, host, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %d bytes", method, path, err, len(b))
	}
	return answer{resp, string(b)}
}

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // all of it first: over HTTP/1.1 net/http ends a large body when the answer begins
	w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Host, r.Header.Get("X-Forwarded-Proto")))
	w.Header().Set("Trailer", "X-Sum")
	switch r.URL.Path {
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
		return
	case "/hints":
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
	}
	n, _ := w.Write(body)
	w.Header().Set("X-Sum", fmt.Sprint(n))
}

func TestSecureRequests(t *testing.T) {
	t.Parallel()
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(echo)})
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	for _, h2 := range []bool{false, true} {
		c := s.over(t, acme, h2)
		for _, tt := range []struct {
			method, path string
			body         io.Reader
			size         int
			status       int
		}{
			{"GET", "/a%2fb?x=1;y=%zz", nil, 0, 200},
			{"HEAD", "/x", nil, 0, 200},
			{"POST", "/x", strings.NewReader("hello"), 5, 200},
			{"PUT", "/x", bytes.NewReader(large), len(large), 200},
			{"PUT", "/unknown-length", io.MultiReader(bytes.NewReader(large)), len(large), 200},
			{"POST", "/empty", nil, 0, 200},
			{"DELETE", "/nothing", nil, 0, 204},
			{"GET", "/hints", nil, 0, 200},
		} {
			got := s.ask(t, c, tt.method, acme, tt.path, tt.body, "Authorization", s.token(1))
			name := fmt.Sprintf("h2 %v: %s %s", h2, tt.method, tt.path)
			if got.StatusCode != tt.status || len(got.body) != tt.size || (got.ProtoMajor == 2) != h2 {
				t.Errorf("%s: got %d with %d bytes over %s: %.200s", name, got.StatusCode, len(got.body), got.Proto, got.body)
			}
			if want := fmt.Sprintf("%s %s %s https", tt.method, tt.path, acme); got.Header.Get("X-Seen") != want {
				t.Errorf("%s: the cell saw %q", name, got.Header.Get("X-Seen"))
			}
			if sum := got.Trailer.Get("X-Sum"); tt.size > 0 && sum != fmt.Sprint(tt.size) {
				t.Errorf("%s: got the trailer %q", name, sum)
			}
			if got.Header.Get(token.AssertionHeader) != "" {
				t.Errorf("%s: the assertion came back", name)
			}
		}
	}
}

// TestSecureStreamsBothWays: neither side waits for the other to end.
func TestSecureStreamsBothWays(t *testing.T) {
	t.Parallel()
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		buf := make([]byte, 1<<10)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			if err != nil || rc.Flush() != nil {
				return
			}
		}
	})})
	body, feed := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.addr+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = acme
	first := strings.Repeat("x", 64<<10) // what the router keeps for a repeat goes before anything else
	go func() { _, _ = io.WriteString(feed, first) }()
	resp, err := s.over(t, acme, true).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, len(first))); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		if _, err := io.WriteString(feed, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = feed.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v at the end", rest, err)
	}
}

// TestSecureEventStreamEndsOnAMove: it ends whole, and the client connects again.
func TestSecureEventStreamEndsOnAMove(t *testing.T) {
	t.Parallel()
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = acme
	resp, err := s.over(t, acme, true).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, len("data: 1\n\n"))); err != nil {
		t.Fatal(err)
	}
	s.placed(place(1, "c2", 2, directory.Active), "acme")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v, want a whole end", rest, err)
	}
}

// TestMisdirected: a connection that was opened for one name carries no request
// for what another certificate is for (X13), and of those that it carries each is
// routed by its own authority (X14).
func TestMisdirected(t *testing.T) {
	t.Parallel()
	cell := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	}
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": cell("c1"), "c2": cell("c2")})
	for _, h2 := range []bool{false, true} {
		wild, own := s.over(t, acme, h2), s.over(t, "www.acme.com", h2)
		for _, tt := range []struct {
			client *http.Client
			host   string
			status int
			body   string
		}{
			{wild, acme, 200, "c1"},
			{wild, "bolt." + base, 200, "c2"}, // the same certificate: coalesced by a client, and not mixed up here
			{wild, "BOLT." + base + ":443", 200, "c2"},
			{wild, "www.acme.com", 421, ""},
			{own, "www.acme.com", 200, "c1"},
			{own, "bolt." + base, 421, ""},
			{own, "nobody.test", 421, ""},
			{own, "127.0.0.1", 421, ""},
		} {
			got := s.ask(t, tt.client, "GET", tt.host, "/", nil)
			if got.StatusCode != tt.status || tt.status == 200 && got.body != tt.body || tt.status == 421 && got.code() != problem.Misdirected {
				t.Errorf("h2 %v, %s: got %d %s, want %d %s", h2, tt.host, got.StatusCode, got.body, tt.status, tt.body)
			}
		}
	}
}

// TestOnlyTheCellItselfIsTheCell: a certificate of another cell, or of no
// authority of ours, gets no request.
func TestOnlyTheCellItselfIsTheCell(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	s := newSecure(t, map[directory.CellID]http.Handler{"c2": h})
	s.cell(t, "c1", s.part(t, certs.RoleCell, "c3"), h)
	c := s.over(t, acme, true)
	if got := s.ask(t, c, "GET", acme, "/", nil); got.StatusCode != 503 || got.code() != problem.CellUnavailable {
		t.Errorf("c3 in c1's place: got %d %s", got.StatusCode, got.body)
	}
	if got := s.ask(t, c, "GET", "bolt."+base, "/", nil); got.StatusCode != 200 || asked.Load() != 1 {
		t.Errorf("c2 itself: got %d %s, and %d requests arrived", got.StatusCode, got.body, asked.Load())
	}
	if !strings.Contains(s.log.String(), "spiffe://cellway/cell/c3") {
		t.Error("the log does not say whose certificate it was")
	}
}

func TestARouterWithoutACertificateSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: "c1", Address: "https://127.0.0.1:1", State: directory.Ready}}})
	if got := w.do("GET", acme, "/", ""); got.StatusCode != 503 || !strings.Contains(w.log.String(), "ROUTER_TLS_IDENTITY_DIR") {
		t.Errorf("got %d %s; log %s", got.StatusCode, got.body, w.log)
	}
}

// TestRotationUnderLoad: certificates of both sides are replaced again and again
// while requests come, on connections new and old; none fails.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	// On a busy machine handshakes become slow, and the limit on requests shrinks to a sixteenth:
	// of it one tenant's share must be more than the four that there are here.
	s := newSecure(t, nil, func(l *pool.Limits) { l.Requests = 256 })
	cell := s.part(t, certs.RoleCell, "c1")
	s.cell(t, "c1", cell, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := len(r.TLS.PeerCertificates); n == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		w.Header().Set("Connection", "close") // so that every request makes a handshake
	}))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, i := range []*certs.Identity{cell, s.identity} {
		wg.Go(func() { _ = i.Run(ctx) })
	}
	var served atomic.Int64
	for n := range 4 {
		c := s.over(t, acme, n%2 == 0)
		wg.Go(func() {
			for ctx.Err() == nil {
				if got := s.ask(t, c, "GET", acme, "/", nil); got.StatusCode != 200 {
					t.Errorf("got %d %s", got.StatusCode, got.body)
					return
				}
				served.Add(1)
			}
		})
	}
	serial := func(i *certs.Identity) string {
		v, _ := i.GetX509SVID()
		return v.Certificates[0].SerialNumber.String()
	}
	for range 5 {
		ofCell, ofRouter, at := serial(cell), serial(s.identity), served.Load()
		for part, dir := range s.dirs {
			role, id, _ := strings.Cut(part, "/")
			if err := s.ca.Issue(dir, certs.Request{Role: role, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "both show new certificates", func() bool {
			return serial(cell) != ofCell && serial(s.identity) != ofRouter && served.Load() > at+8 || t.Failed()
		})
	}
	stop()
	wg.Wait()
	if served.Load() == 0 {
		t.Error("nothing was served")
	}
}

// TestPlainHTTP2IsRefused: unless a listener is for it.
func TestPlainHTTP2IsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(echo)}, nil)
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	if resp, err := c.Do(w.request(t.Context(), "GET", acme, "/", "")); err == nil {
		resp.Body.Close()
		t.Errorf("got %d over %s on the usual listener", resp.StatusCode, resp.Proto)
	}
	w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
	resp, err := c.Do(w.request(t.Context(), "GET", acme, "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 || !strings.HasSuffix(resp.Header.Get("X-Seen"), " http") {
		t.Errorf("got %d over %s, the cell saw %q", resp.StatusCode, resp.Proto, resp.Header.Get("X-Seen"))
	}
}

// TestSecureClientLeaves: the cell hears of it.
func TestSecureClientLeaves(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}), make(chan struct{})
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	})})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = acme
	ended := make(chan error, 1)
	go func() {
		resp, err := s.over(t, acme, true).Do(r)
		if err == nil {
			resp.Body.Close()
		}
		ended <- err
	}()
	<-arrived
	cancel()
	<-left
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestACutAnswerLooksCutOverTLS where its end is the connection's: a goodbye of TLS would say
// that it was whole.
func TestACutAnswerLooksCutOverTLS(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http says goodbye")
	}
	read := make(chan struct{})
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-read
		panic(http.ErrAbortHandler)
	})})
	d := tls.Dialer{Config: s.clientConfig(acme, "http/1.1")}
	c, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.0\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", acme, s.token(1))
	var got []byte
	for buf := make([]byte, 1024); err == nil; {
		var n int
		n, err = c.Read(buf)
		got = append(got, buf[:n]...)
		if n > 0 && bytes.HasSuffix(got, []byte("half")) {
			close(read)
		}
	}
	if errors.Is(err, io.EOF) || !bytes.HasSuffix(got, []byte("half")) {
		t.Errorf("got %q, %v", got, err)
	}
}
