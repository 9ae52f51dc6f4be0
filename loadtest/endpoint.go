// Package loadtest drives the product from outside, as its tenants do.
//
// A [Tenant] writes through the global endpoint, remembers every write that was
// acknowledged, and later checks that each is there exactly once and that its
// events were consumed once and in order. A [Recorder] keeps how each attempt
// ended, by cell. What a tenant does follows from a seed; when it does it, and
// how its requests mix with those of others, does not.
package loadtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// maxAnswer bounds what is read of one answer.
const maxAnswer = 16 << 20

// callTimeout bounds one attempt: longer than the router's own bounds, so that
// the router and not the client decides.
const callTimeout = 40 * time.Second

// An Endpoint is the global endpoint: routers that are all the same. Requests go
// to each in turn.
type Endpoint struct {
	urls []string
	next atomic.Uint64
	http *http.Client
}

// NewEndpoint makes an Endpoint of the routers' base URLs.
func NewEndpoint(urls ...string) *Endpoint {
	transport := &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true}
	return &Endpoint{urls: urls, http: &http.Client{
		Transport: transport, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Trust makes the Endpoint take certificates of the authority in a PEM file, and
// of no other.
func (e *Endpoint) Trust(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read authority: no certificate in %s", file)
	}
	if tr, ok := e.http.Transport.(*http.Transport); ok {
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return nil
}

// Close ends the connections that nobody uses.
func (e *Endpoint) Close() { e.http.CloseIdleConnections() }

// Routers is how many routers there are.
func (e *Endpoint) Routers() int { return len(e.urls) }

// A Request is one call. The zero value of each field but Path leaves it out.
type Request struct {
	Method string // "" is GET, or POST with a body
	Path   string
	Host   string // the Host header, where it is not the router's address
	Token  string // bearer
	Key    string // Idempotency-Key
	Header http.Header
	Body   any // JSON; a string or []byte goes as it is
	Router int // 1 for the first router; 0 takes them in turn
}

// An Answer is what came back, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// router is the base URL of a router, from 1; 0 takes them in turn.
func (e *Endpoint) router(n int) string {
	if n == 0 {
		n = int(e.next.Add(1)) //nolint:gosec // a count of requests
	}
	return e.urls[(n-1)%len(e.urls)]
}

// Do makes one attempt. The error says that no whole answer came; a status of
// 400 and more is an Answer.
func (e *Endpoint) Do(ctx context.Context, r Request) (Answer, error) {
	var out Answer
	req, err := newRequest(ctx, e.router(r.Router), r)
	if err != nil {
		return out, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return out, fmt.Errorf("send %s %s: %w", req.Method, r.Path, err)
	}
	defer resp.Body.Close()
	out.Status, out.Header = resp.StatusCode, resp.Header
	out.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("read answer to %s %s: %w", req.Method, r.Path, err)
	}
	return out, nil
}

func newRequest(ctx context.Context, base string, r Request) (*http.Request, error) {
	body, err := encode(r.Body)
	if err != nil {
		return nil, err
	}
	method := r.Method
	switch {
	case method == "" && body != nil:
		method = http.MethodPost
	case method == "":
		method = http.MethodGet
	}
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+r.Path, in)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, values := range r.Header {
		req.Header[name] = values // as given: some tests send odd spellings
	}
	setIf(req.Header, "Authorization", "Bearer ", r.Token)
	setIf(req.Header, "Idempotency-Key", "", r.Key)
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Host != "" {
		req.Host = r.Host
	}
	return req, nil
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(b), nil
	case []byte:
		return b, nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	return b, nil
}

func setIf(h http.Header, name, prefix, value string) {
	if value != "" {
		h.Set(name, prefix+value)
	}
}

// Decode reads the answer's JSON into v; an answer of status 400 and more is an
// error of the kind that its problem document names.
func (a Answer) Decode(v any) error {
	if err := a.Problem(); err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("read answer with status %d: %w", a.Status, err)
	}
	return nil
}

// Problem is the error that the answer holds, nil where its status is below 400.
func (a Answer) Problem() error {
	if a.Status < 400 {
		return nil
	}
	return problem.Read(&http.Response{StatusCode: a.Status, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body))})
}

// String is the status and the start of the body, for messages.
func (a Answer) String() string {
	body := strings.TrimSpace(string(a.Body))
	if len(body) > 300 {
		body = body[:300] + "..."
	}
	return fmt.Sprintf("%d %s", a.Status, body)
}
