package cell_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/projects"
)

// A loot is what one tenant may have learnt of another: names of its things. The
// secret is in each of them and must appear in no answer.
type loot struct {
	project, task, projects, tasks, key string // projects and tasks are cursors
}

const secret = "bravos-secret"

func plant(h *harness) loot {
	h.t.Helper()
	l := loot{key: "bravos-key"}
	for i := range 3 {
		p := h.createProject(bravo, fmt.Sprint(secret, i))
		l.project = p.ID
	}
	for i := range 3 {
		l.task = h.createTask(bravo, l.project, fmt.Sprint(secret, i)).ID
	}
	h.want(201, request{
		tenant: bravo, method: "POST", path: "/v1/projects", body: `{"name":"` + secret + `"}`,
		header: map[string]string{"Idempotency-Key": l.key},
	})
	page := func(path string) string {
		type page struct {
			Next string `json:"next_cursor"`
		}
		return decode[page](h.t, h.want(200, request{tenant: bravo, method: "GET", path: path + "?limit=1"})).Next
	}
	l.projects, l.tasks = page("/v1/projects"), page("/v1/projects/"+l.project+"/tasks")
	return l
}

// TestNoOperationCrossesTenants takes every operation of the contract, fills in
// whatever of another tenant's it has room for, and sends it.
func TestNoOperationCrossesTenants(t *testing.T) {
	t.Parallel()
	h := start(t)
	l := plant(h)
	own := h.createProject(acme, "mine")
	doc, err := openapi3.NewLoader().LoadFromData(cell.Contract)
	if err != nil {
		t.Fatal(err)
	}
	before := h.position(bravo)
	tried := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if endless(op) {
				continue // see TestAStreamIsOfOneTenant
			}
			for _, q := range attempts(method, path, append(item.Parameters, op.Parameters...), op, l, own.ID) {
				r := h.send(q.request)
				tried++
				if q.want != 0 && r.status != q.want {
					t.Errorf("%s %s %s: got %d, want %d\n%s", q.method, q.path, q.name, r.status, q.want, r.body)
				}
				if strings.Contains(string(r.body), secret) || strings.Contains(fmt.Sprint(r.header), l.project) {
					t.Errorf("%s %s %s: another tenant's data\n%s", q.method, q.path, q.name, r.body)
				}
			}
		}
	}
	if tried < len(doc.Paths.Map()) {
		t.Errorf("only %d attempts", tried)
	}
	if got := h.position(bravo); got != before {
		t.Errorf("events of the other tenant: got %d, want %d", got, before)
	}
	h.want(200, request{tenant: bravo, method: "GET", path: "/v1/tasks/" + l.task})
}

// endless reports whether an operation answers with a stream.
func endless(op *openapi3.Operation) bool {
	ok := op.Responses.Status(200)
	return ok != nil && ok.Value.Content["text/event-stream"] != nil
}

// An attempt is a request and the status that it must get; 0 is any.
type attempt struct {
	request
	name string
	want int
}

// attempts are the ways in which one operation can be pointed at loot.
func attempts(method, path string, params openapi3.Parameters, op *openapi3.Operation, l loot, own string) []attempt {
	q := request{tenant: acme, method: method, header: map[string]string{}}
	if op.RequestBody != nil {
		q.body = example(op.RequestBody.Value.Content["application/json"].Schema.Value)
	}
	foreign := strings.NewReplacer("{project}", l.project, "{task}", l.task).Replace(path)
	mine := strings.ReplaceAll(path, "{project}", own)
	var out []attempt
	for _, p := range params {
		switch p.Value.Name {
		case "If-Match":
			q.header["If-Match"] = "*"
		case "cursor":
			for _, cursor := range []string{l.projects, l.tasks} {
				a := attempt{q, "cursor", 400}
				a.path = mine + "?" + url.Values{"cursor": {cursor}}.Encode()
				out = append(out, a)
			}
		case "Idempotency-Key":
			a := attempt{q, "key", 0}
			a.path, a.header = mine, map[string]string{"Idempotency-Key": l.key}
			out = append(out, a)
		}
	}
	a := attempt{q, "ids", 0}
	a.path = foreign
	if foreign != path {
		a.want = 404
	}
	return append(out, a)
}

// example is a body that fits a schema of the contract.
func example(s *openapi3.Schema) string {
	body := map[string]any{}
	for name, p := range s.Properties {
		body[name] = "x"
		if len(p.Value.Enum) > 0 {
			body[name] = string(projects.Doing)
		}
		if p.Value.Format == "date-time" {
			body[name] = "2026-01-02T03:04:05Z"
		}
	}
	b, _ := json.Marshal(body) // strings only
	return string(b)
}

// TestAnotherTenantsKeyIsFree repeats another tenant's request word by word.
func TestAnotherTenantsKeyIsFree(t *testing.T) {
	t.Parallel()
	h := start(t)
	q := keyed("shared", `{"name":"Moon"}`)
	q.tenant = bravo
	theirs := decode[projects.Project](t, h.want(201, q))
	q.tenant = acme
	r := h.want(201, q)
	if mine := decode[projects.Project](t, r); mine.ID == theirs.ID || r.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("got %+v, which is another tenant's", mine)
	}
}
