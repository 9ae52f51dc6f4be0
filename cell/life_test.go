package cell_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell/projects"
)

func TestLifeOfAProject(t *testing.T) {
	t.Parallel()
	h := start(t)
	created := h.want(201, request{method: "POST", path: "/v1/projects", body: `{"name":"Moon","description":"there and back"}`})
	p := decode[projects.Project](t, created)
	if p.Name != "Moon" || p.Description != "there and back" || p.Version != 1 || created.header.Get("ETag") != `"1"` {
		t.Errorf("created: got %+v, ETag %s", p, created.header.Get("ETag"))
	}
	if got, want := created.header.Get("Location"), "projects/"+p.ID; got != want {
		t.Errorf("Location: got %q, want %q", got, want)
	}
	path := "/v1/projects/" + p.ID
	if got := decode[projects.Project](t, h.want(200, request{method: "GET", path: path})); got != p {
		t.Errorf("get: got %+v, want %+v", got, p)
	}

	match := map[string]string{"If-Match": `"1"`}
	changed := h.want(200, request{method: "PATCH", path: path, body: `{"name":"Mars"}`, header: match})
	if got := decode[projects.Project](t, changed); got.Name != "Mars" || got.Description != p.Description || got.Version != 2 {
		t.Errorf("changed: got %+v", got)
	}
	h.want(412, request{method: "PATCH", path: path, body: `{"name":"Venus"}`, header: match})
	h.want(400, request{method: "PATCH", path: path, body: `{"name":"Venus"}`}) // no If-Match
	h.want(400, request{method: "PATCH", path: path, body: `{}`, header: match})
	h.want(412, request{method: "DELETE", path: path, header: match})

	task := h.createTask(acme, p.ID, "fuel")
	h.want(204, request{method: "DELETE", path: path, header: map[string]string{"If-Match": `"2"`}})
	h.want(404, request{method: "GET", path: path})
	h.want(404, request{method: "GET", path: "/v1/tasks/" + task.ID})
	h.want(404, request{method: "DELETE", path: path})
	h.want(404, request{method: "POST", path: path + "/tasks", body: `{"title":"late"}`})
	if got, want := h.position(acme), int64(4); got != want { // created, updated, task created, deleted
		t.Errorf("events: got %d, want %d", got, want)
	}
}

func TestLifeOfATask(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	created := h.want(201, request{method: "POST", path: "/v1/projects/" + p.ID + "/tasks", body: `{"title":"fuel"}`})
	task := decode[projects.Task](t, created)
	if task.State != projects.Todo || task.Project != p.ID || created.header.Get("Location") != "../../tasks/"+task.ID {
		t.Errorf("created: got %+v, Location %q", task, created.header.Get("Location"))
	}
	path := "/v1/tasks/" + task.ID
	h.want(200, request{method: "PATCH", path: path, body: `{"title":"oxygen"}`, header: map[string]string{"If-Match": "*"}})
	move := func(status int, to projects.TaskState) response {
		t.Helper()
		return h.want(status, request{method: "POST", path: path + "/transition", body: fmt.Sprintf(`{"to":%q}`, to)})
	}
	refused := decode[document](t, move(409, projects.Done))
	if refused.Code != "conflict" || refused.Extra["allowed"] != "doing" || refused.Source != "cell" {
		t.Errorf("refused: got %+v", refused)
	}
	for _, to := range []projects.TaskState{projects.Doing, projects.Review, projects.Done, projects.Todo} {
		if got := decode[projects.Task](t, move(200, to)); got.State != to {
			t.Errorf("state: got %s, want %s", got.State, to)
		}
	}
	move(400, "lost")
	got := decode[projects.Task](t, h.want(200, request{method: "GET", path: path}))
	if got.Title != "oxygen" || got.Version != 6 || got.State != projects.Todo {
		t.Errorf("task: got %+v", got)
	}
	stale := map[string]string{"If-Match": `"5"`}
	h.want(412, request{method: "POST", path: path + "/transition", body: `{"to":"doing"}`, header: stale})
	h.want(412, request{method: "DELETE", path: path, header: stale})
	h.want(204, request{method: "DELETE", path: path})
	h.want(404, request{method: "DELETE", path: path})
}

func TestPagesHoldEveryItemOnce(t *testing.T) {
	t.Parallel()
	h := start(t)
	var want []string
	for i := range 7 {
		want = append(want, h.createProject(acme, fmt.Sprint("p", i)).ID)
	}
	var got []string
	path := "/v1/projects?limit=3"
	for pages := 1; ; pages++ {
		r := h.want(200, request{method: "GET", path: path})
		page := decode[projects.ProjectPage](t, r)
		for _, p := range page.Items {
			got = append(got, p.ID)
		}
		if page.NextCursor == "" {
			if r.header.Get("Link") != "" || pages != 3 {
				t.Errorf("last page: number %d, Link %q", pages, r.header.Get("Link"))
			}
			break
		}
		next := url.Values{"cursor": {page.NextCursor}, "limit": {"3"}}.Encode()
		if got, want := r.header.Get("Link"), "<?"+next+`>; rel="next"`; got != want {
			t.Errorf("Link: got %q, want %q", got, want)
		}
		path = "/v1/projects?" + next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ids: got %v, want %v", got, want)
	}
	for _, bad := range []string{"limit=0", "limit=201", "limit=x", "cursor=", "cursor=abc", "cursor=" + want[0]} {
		r := decode[document](t, h.want(400, request{method: "GET", path: "/v1/projects?" + bad}))
		name, _, _ := strings.Cut(bad, "=")
		if len(r.Errors) != 1 || r.Errors[0].Pointer != "query/"+name {
			t.Errorf("%s: got %+v", bad, r)
		}
	}
	if page := h.want(200, request{tenant: bravo, method: "GET", path: "/v1/projects"}); string(page.body) != "{\"items\":[]}\n" {
		t.Errorf("empty page: got %s", page.body)
	}
}

func TestSummaryCountsTasks(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	task := h.createTask(acme, p.ID, "fuel")
	h.createTask(acme, p.ID, "oxygen")
	h.want(200, request{method: "POST", path: "/v1/tasks/" + task.ID + "/transition", body: `{"to":"doing"}`})
	path := "/v1/projects/" + p.ID + "/summary"
	want := projects.ProjectSummary{Project: p.ID, Total: 2, Tasks: projects.TaskCounts{Todo: 1, Doing: 1}}
	for range 2 { // counted, then remembered
		if got := decode[projects.ProjectSummary](t, h.want(200, request{method: "GET", path: path})); got != want {
			t.Errorf("summary: got %+v, want %+v", got, want)
		}
	}
	h.want(204, request{method: "DELETE", path: "/v1/projects/" + p.ID})
	h.want(404, request{method: "GET", path: path}) // what is remembered does not outlive the project
}
