package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/token"
)

// A bench is a server over a directory, with what a test calls it with.
type bench struct {
	*httptest.Server
	keys     token.Keys
	registry *prometheus.Registry
	contract routers.Router
}

// serve serves d; change, unless nil, changes the options first. Every answer is
// held against the contract.
func serve(t *testing.T, d directory.Directory, change func(*server.Options)) *bench {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{keys: keys, registry: prometheus.NewRegistry(), contract: contract(t)}
	o := server.Options{Directory: d, Keys: keys, Registry: b.registry, Signup: true}
	if change != nil {
		change(&o)
	}
	s, err := server.New(o)
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	b.Server = httptest.NewServer(b.checked(t, s))
	t.Cleanup(b.Close)
	return b
}

func contract(t *testing.T) routers.Router {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(server.Contract)
	if err != nil {
		t.Fatalf("load contract: %v", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatalf("read contract: %v", err)
	}
	return router
}

// checked reports every answer of next that breaks the contract.
func (b *bench) checked(t *testing.T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		route, params, err := b.contract.FindRoute(r)
		if err != nil || rec.Code == 499 {
			return // no operation, or nobody to answer
		}
		in := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
			Status:                 rec.Code, Header: rec.Header(), Body: io.NopCloser(rec.Body),
			Options: &openapi3filter.Options{IncludeResponseStatus: true},
		}
		if err := openapi3filter.ValidateResponse(r.Context(), in); err != nil {
			t.Errorf("%s %s answers %d against the contract: %v", r.Method, r.URL, rec.Code, err)
		}
	})
}

// token is one of kind's; a cell's is c1's.
func (b *bench) token(t *testing.T, kind token.Kind) string {
	t.Helper()
	c := token.Claims{Kind: kind, Subject: directorytest.Actor}
	switch kind {
	case token.Tenant:
		c.Tenant = 1
	case token.Cell:
		c.Subject = "c1"
	}
	return b.issue(t, c)
}

func (b *bench) issue(t *testing.T, c token.Claims) string {
	t.Helper()
	signed, err := b.keys.Issue(c, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// client is a Client of kind's.
func (b *bench) client(t *testing.T, kind token.Kind) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: b.URL, Token: b.token(t, kind), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request as an operator; headers are "Name: value".
func (b *bench) call(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+b.token(t, token.Operator))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, read}
}

// problem is the document that an answer holds.
func (a answer) problem(t *testing.T) (doc struct {
	Code   string
	Detail string
	Source string
	Errors []struct{ Pointer, Detail string }
},
) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("content type: got %q of %s", got, a.body)
	}
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(&doc); err != nil {
		t.Fatalf("decode %s: %v", a.body, err)
	}
	return doc
}

func TestConformance(t *testing.T) {
	t.Parallel()
	directorytest.Run(t, func(t *testing.T) directory.Directory {
		return serve(t, directorytest.NewMemory(), nil).client(t, token.Operator)
	})
}
