// Package client speaks to the directory over HTTP: [Client] is a
// directory.Directory, and [Watch] keeps a table up to date.
//
// Every call has a deadline. Calls that can be repeated without harm are
// repeated, a few times and with jitter, when the directory does not answer;
// the others (CreateTenant, CreateMove, Place, ReleaseClaim, Signup, IssueToken)
// never are: after problem.Unavailable their caller has to look what is so.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// Options say where the directory is and who asks.
type Options struct {
	URL      string        // base URL, such as http://127.0.0.1:7000
	Token    string        // bearer token of a kind that may call what is called; Signup needs none
	Timeout  time.Duration // of one attempt, beside the time that a long poll waits; 0 is 5 s
	Attempts int           // of a call that may be repeated; 0 is 3
	HTTP     *http.Client  // 0 is one of its own, traced
}

// A Client is the directory at the other end of HTTP. It is safe for concurrent use.
type Client struct {
	base     string
	token    string
	timeout  time.Duration
	attempts int
	http     *http.Client
}

var _ directory.Directory = (*Client)(nil)

// New makes a Client; it does not connect.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, problem.New(problem.Invalid, "directory URL %q is not an http or https URL", o.URL)
	}
	c := &Client{base: strings.TrimRight(o.URL, "/"), token: o.Token, timeout: o.Timeout, attempts: o.Attempts, http: o.HTTP}
	if c.timeout <= 0 {
		c.timeout = 5 * time.Second
	}
	if c.attempts <= 0 {
		c.attempts = 3
	}
	if c.http == nil {
		c.http = newHTTP()
	}
	return c, nil
}

// dialTimeout is short, because a packet that is lost is sent again only after a
// second: another attempt is sooner.
const dialTimeout = 500 * time.Millisecond

// newHTTP makes a client that never follows a redirect: a token goes to the
// directory and nowhere else.
func newHTTP() *http.Client {
	transport := &http.Transport{ // each call brings its own deadline
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16, DisableCompression: true,
	}
	return &http.Client{
		Transport:     otelhttp.NewTransport(transport),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A call is one request of the contract.
type call struct {
	method string
	path   []string // elements, escaped by do
	query  url.Values
	body   any           // sent as JSON unless nil
	into   any           // filled from JSON unless nil
	repeat bool          // may be repeated without harm
	wait   time.Duration // how long the directory may take beside the timeout
}

// do makes the call, more than once where that is allowed and helps.
func (c *Client) do(ctx context.Context, k call) error {
	attempts := 1
	if k.repeat {
		attempts = c.attempts
	}
	for n := 1; ; n++ {
		err := c.once(ctx, k)
		if err == nil || n == attempts || !unanswered(err) || ctx.Err() != nil {
			return err
		}
		if !run.Pause(ctx, backoff(n, 50*time.Millisecond, time.Second)) {
			return err
		}
	}
}

// once makes one attempt.
func (c *Client) once(ctx context.Context, k call) error {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.timeout+k.wait)
	defer cancel()
	req, err := c.request(ctx, k)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(outer, k, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return problem.Said(resp, problem.BadGateway)
	}
	if k.into != nil {
		if err := json.NewDecoder(resp.Body).Decode(k.into); err != nil {
			return unreachable(outer, k, err)
		}
	}
	// What is left is a few bytes at most; read, the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	return nil
}

func (c *Client) request(ctx context.Context, k call) (*http.Request, error) {
	var body io.Reader
	if k.body != nil {
		b, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	target := c.base
	for _, element := range k.path {
		target += "/" + url.PathEscape(element)
	}
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if id := telemetry.RequestID(ctx); id != "" {
		req.Header.Set(telemetry.RequestIDHeader, id)
	}
	return req, nil
}

// unreachable is the error of a call without a whole answer: the caller's own
// where its context ended, Unavailable otherwise.
func unreachable(ctx context.Context, k call, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", k.method, "/"+strings.Join(k.path, "/"), ctx.Err())
	}
	return problem.Wrap(problem.Unavailable, err, "the directory does not answer")
}

// unanswered reports whether another attempt may succeed.
func unanswered(err error) bool {
	return errors.Is(err, problem.Unavailable) || errors.Is(err, problem.BadGateway) || errors.Is(err, problem.Timeout)
}

// backoff is a random time below first doubled with each attempt, at most most.
func backoff(attempt int, first, most time.Duration) time.Duration {
	limit := most
	if attempt < 20 {
		limit = min(most, first<<(attempt-1))
	}
	return rand.N(limit) + time.Millisecond
}
