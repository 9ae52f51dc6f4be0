package openapi

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cellway/cellway/infra/problem"
)

const document = `
openapi: 3.0.3
info: {title: t, version: "1"}
servers: [{url: https://elsewhere.example/base}]
paths:
  /v1/projects:
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 200}}
        - {name: tag, in: query, schema: {type: array, items: {type: string, maxLength: 3}}}
      responses: {default: {description: d}}
    post:
      parameters:
        - {name: Idempotency-Key, in: header, required: true, schema: {type: string, maxLength: 5}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [name]
              additionalProperties: false
              properties: {name: {type: string, maxLength: 9}}
      responses: {default: {description: d}}
  /v1/projects/{project}:
    parameters:
      - {name: project, in: path, required: true, schema: {type: string, pattern: "^p[0-9]+$"}}
    get: {responses: {default: {description: d}}}
  /v1/projects/summary:
    get: {responses: {default: {description: d}}}
  /v1/{kind}/latest/{n}:
    parameters:
      - {name: kind, in: path, required: true, schema: {type: string}}
      - {name: n, in: path, required: true, schema: {type: integer}}
    get: {responses: {default: {description: d}}}
`

// TestCheck: what is not in the contract is named, part by part.
func TestCheck(t *testing.T) {
	t.Parallel()
	c, err := Read([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	const key = "Idempotency-Key: k"
	for _, tt := range []struct {
		method, target, head, body string
		pointer                    string // of the first thing that is wrong; "-" is nothing
		kind                       problem.Kind
		part                       string
	}{
		{"GET", "/v1/projects?limit=50&other=1", "", "", "-", "", ""},
		{"GET", "/v1/projects?limit=many", "", "", "query/limit", problem.Invalid, "query"},
		{"GET", "/v1/projects?limit=201", "", "", "query/limit", problem.Invalid, "query"},
		{"GET", "/v1/projects?limit=50&limit=201", "", "", "query/limit", problem.Invalid, "query"}, // the cell may take the last
		{"GET", "/v1/projects?limit=201;x=1", "", "", "query", problem.Invalid, "query"},            // or cut it elsewhere
		{"GET", "/v1/projects?limit=201&limit=%zz", "", "", "query", problem.Invalid, "query"},
		{"GET", "/v1/projects?tag=a&tag=b", "", "", "-", "", ""},
		{"GET", "/v1/projects?tag=a&tag=long", "", "", "query/tag", problem.Invalid, "query"},
		{"GET", "/v1/nothing", "", "", "path", problem.NotFound, "path"},
		{"GET", "/v1/projects/", "", "", "path", problem.NotFound, "path"},
		{"PUT", "/v1/projects", "", "", "method", problem.MethodNotAllowed, "method"},
		{"GET", "/v1/projects/p7", "", "", "-", "", ""},
		{"GET", "/v1/projects/summary", "", "", "-", "", ""},
		{"GET", "/v1/projects/q", "", "", "path/project", problem.NotFound, "path"},
		{"GET", "/v1/projects/latest/7", "", "", "-", "", ""},
		{"GET", "/v1/projects/latest/x", "", "", "path/n", problem.NotFound, "path"},
		{"GET", "/v1/projects%2Fsummary", "", "", "-", "", ""}, // as the cell reads it
		{"POST", "/v1/projects", "", `{"name":"moon"}`, "header/Idempotency-Key", problem.Invalid, "header"},
		{"POST", "/v1/projects", key, `{"name":"moon"}`, "-", "", ""},
		{"POST", "/v1/projects", key, `{"name":"a long name"}`, "/name", problem.Invalid, "body"},
		{"POST", "/v1/projects", key, `{"name":"moon","x":1}`, "/x", problem.Invalid, "body"},
		{"POST", "/v1/projects", key, `{`, "", problem.Invalid, "body"},
		{"POST", "/v1/projects", key, "", "", problem.Invalid, "body"},
		{"GET", "/v1/projects", "", "{}", "", problem.Invalid, "body"},
	} {
		r := httptest.NewRequest(tt.method, tt.target, strings.NewReader("not read"))
		r.Header.Set("Content-Type", "application/json")
		if name, value, ok := strings.Cut(tt.head, ": "); ok {
			r.Header.Set(name, value)
		}
		err := c.Check(r, r.URL.Path, []byte(tt.body), true)
		var e *problem.Error
		switch {
		case tt.pointer == "-" && err != nil:
			t.Errorf("%s %s: %v", tt.method, tt.target, err)
		case tt.pointer == "-":
		case !errors.As(err, &e) || e.Kind != tt.kind || len(e.Fields) == 0 || e.Fields[0].Pointer != tt.pointer || Part(err) != tt.part:
			t.Errorf("%s %s %s: got %#v", tt.method, tt.target, tt.body, err)
		}
	}
	r := httptest.NewRequest("POST", "/v1/projects", strings.NewReader("{"))
	r.Header.Set("Idempotency-Key", "k")
	if err := c.Check(r, r.URL.Path, nil, false); err != nil {
		t.Errorf("a body that nobody asked to look at: %v", err)
	}
}

// TestBadContracts: the error is one line.
func TestBadContracts(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "{", "openapi: 3.0.3", strings.Replace(document, "type: integer", "type: nothing", 1), strings.Replace(document, "/v1/{kind}/", "/v1/a{kind}/", 1),
		strings.Replace(document, "schema: {type: integer}", "schema: {$ref: 'other.yaml#/x'}", 1), strings.Repeat(" ", maxDocument+1),
	} {
		if _, err := Read([]byte(bad)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: got %v", bad, err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c, err := Read([]byte(document))
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/v1/projects?limit=50", nil)
	body := httptest.NewRequest("POST", "/v1/projects", nil)
	body.Header.Set("Content-Type", "application/json")
	body.Header.Set("Idempotency-Key", "k")
	b.Run("head", func(b *testing.B) {
		for b.Loop() {
			_ = c.Check(r, r.URL.Path, nil, false)
		}
	})
	b.Run("body", func(b *testing.B) {
		for b.Loop() {
			_ = c.Check(body, body.URL.Path, []byte(`{"name":"moon"}`), true)
		}
	})
}
