package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// A Write is one acknowledged write.
type Write struct {
	Subject string // the row it changed, as its event names it: "project/<id>", "task/<id>"
	Verb    string // the end of its event's type: Created or Transitioned
	Name    string // the project's name or the task's title, unique in the run
	State   string // of a task, after the write
}

// A task is a task as its lane knows it: nobody else touches it.
type task struct {
	id, title, state string
}

// A lane is one thread of a tenant's work: one request at a time, on rows that
// no other lane touches, so that it knows what each must look like.
type lane struct {
	tenant   *Tenant
	name     string
	rng      *rand.Rand // decides what is done, and nothing else
	jitter   *rand.Rand // decides how long pauses are
	ops      int
	projects []string
	tasks    []*task
	dated    []string // subjects of tasks that fall due
	writes   []Write
}

func newLane(t *Tenant, n int) *lane {
	return &lane{tenant: t, name: fmt.Sprintf("%s-%d-%d", t.Slug, t.plan.Seed, n), rng: t.seeded(2 * n), jitter: t.seeded(2*n + 1)}
}

func (l *lane) work(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := l.step(ctx); err != nil {
			return err
		}
		if think := l.tenant.plan.Think; think > 0 && !Pause(ctx, time.Duration(l.jitter.Int64N(int64(2*think)))) {
			return ctx.Err()
		}
	}
}

// dueWithin is how soon a task falls due, at most: before, during or after what happens to its tenant.
const dueWithin = 3 * time.Second

// maxProjects and maxTasks keep what a lane owns small enough to check.
const (
	maxProjects = 4
	maxTasks    = 150
)

// step does one operation: about two writes for each read.
func (l *lane) step(ctx context.Context) error {
	l.ops++
	dice := l.rng.IntN(100)
	switch {
	case len(l.projects) == 0 || (dice < 5 && len(l.projects) < maxProjects):
		return l.createProject(ctx)
	case len(l.tasks) == 0 || (dice < 35 && len(l.tasks) < maxTasks):
		return l.createTask(ctx)
	case dice < 70:
		return l.transition(ctx)
	}
	return l.read(ctx)
}

func (l *lane) createProject(ctx context.Context) error {
	name := fmt.Sprintf("project %s-%d", l.name, l.ops)
	var made struct{ ID, Name string }
	if err := l.write(ctx, "/v1/projects", map[string]string{"name": name}, &made); err != nil {
		return err
	}
	if made.ID == "" || made.Name != name {
		return fmt.Errorf("create project %q: answer is another: %+v", name, made)
	}
	l.projects = append(l.projects, made.ID)
	l.remember(Write{Subject: "project/" + made.ID, Verb: Created, Name: name})
	return nil
}

func (l *lane) createTask(ctx context.Context) error {
	project := l.projects[l.rng.IntN(len(l.projects))]
	title := fmt.Sprintf("task %s-%d", l.name, l.ops)
	body := map[string]any{"title": title}
	dated := l.tenant.plan.Dated && l.rng.IntN(4) == 0
	if dated {
		body["due_at"] = time.Now().Add(time.Duration(l.jitter.Int64N(int64(dueWithin))))
	}
	var made struct{ ID, Title, State string }
	if err := l.write(ctx, "/v1/projects/"+project+"/tasks", body, &made); err != nil {
		return err
	}
	if made.ID == "" || made.Title != title {
		return fmt.Errorf("create task %q: answer is another: %+v", title, made)
	}
	if dated {
		l.dated = append(l.dated, "task/"+made.ID)
	} else {
		l.tasks = append(l.tasks, &task{id: made.ID, title: title, state: made.State})
	}
	l.remember(Write{Subject: "task/" + made.ID, Verb: Created, Name: title, State: made.State})
	return nil
}

// nextState holds the task workflow as its documentation gives it.
var nextState = map[string][]string{
	"todo": {"doing"}, "doing": {"review", "todo"}, "review": {"done", "doing"}, "done": {"todo"},
}

func (l *lane) transition(ctx context.Context) error {
	t := l.tasks[l.rng.IntN(len(l.tasks))]
	next := nextState[t.state]
	if len(next) == 0 {
		return fmt.Errorf("task %s is in state %q, which the workflow does not have", t.id, t.state)
	}
	to := next[l.rng.IntN(len(next))]
	var after struct{ ID, State string }
	if err := l.write(ctx, "/v1/tasks/"+t.id+"/transition", map[string]string{"to": to}, &after); err != nil {
		return err
	}
	if after.State != to {
		return fmt.Errorf("move task %s to %s: answer is %+v", t.id, to, after)
	}
	t.state = to
	l.remember(Write{Subject: "task/" + t.id, Verb: Transitioned, Name: t.title, State: to})
	return nil
}

// read asks for something and compares it with what the lane knows.
func (l *lane) read(ctx context.Context) error {
	switch l.rng.IntN(4) {
	case 0:
		return l.get(ctx, "/v1/projects?limit=20", nil)
	case 1:
		return l.get(ctx, "/v1/projects/"+l.projects[l.rng.IntN(len(l.projects))]+"/summary", nil)
	}
	t := l.tasks[l.rng.IntN(len(l.tasks))]
	var seen struct{ ID, Title, State string }
	if err := l.get(ctx, "/v1/tasks/"+t.id, &seen); err != nil {
		return err
	}
	if seen.ID != t.id || seen.Title != t.title || seen.State != t.state {
		return fmt.Errorf("task %s was acknowledged as %q, %s, and read as %+v", t.id, t.title, t.state, seen)
	}
	return nil
}

func (l *lane) key() string { return fmt.Sprintf("%s-%d", l.name, l.ops) }

func (l *lane) remember(w Write) { l.writes = append(l.writes, w) }

func (l *lane) write(ctx context.Context, path string, body, into any) error {
	a, err := l.send(ctx, Request{Method: http.MethodPost, Path: path, Key: l.key(), Body: body})
	if err != nil {
		return err
	}
	return a.Decode(into)
}

func (l *lane) get(ctx context.Context, path string, into any) error {
	a, err := l.send(ctx, Request{Path: path})
	if err != nil || into == nil {
		return err
	}
	return a.Decode(into)
}

// giveUp is how long a request is repeated: longer than a cell may take to come back.
const giveUp = 90 * time.Second

// send repeats a request until it is answered as it should be. The key of a
// write stays the same, so that the cell can tell a repetition.
func (l *lane) send(ctx context.Context, r Request) (Answer, error) {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		start := time.Now()
		a, err := l.tenant.Do(ctx, r)
		if ctx.Err() != nil {
			return a, ctx.Err() // the run is over: this attempt says nothing about the cell
		}
		fault, again := judge(a, err)
		l.tenant.rec.Add(Attempt{Cell: l.tenant.Cell(), Tenant: l.tenant.ID, At: time.Now(), Took: time.Since(start), Since: time.Since(began), Fault: fault})
		if fault == "" {
			return a, nil
		}
		if !again || time.Since(began) > giveUp {
			return a, fmt.Errorf("%s %s, attempt %d: %s", r.Method, r.Path, attempt, fault)
		}
		if !Pause(ctx, backoff(l.jitter, attempt)) {
			return a, ctx.Err()
		}
	}
}

// judge says what is wrong with an attempt, "" where nothing is, and whether it
// may be mended by trying again. Conflict is among those: it is the answer to a
// repeated write whose first attempt is still under way.
func judge(a Answer, err error) (fault string, again bool) {
	if err != nil {
		return err.Error(), true
	}
	p := a.Problem()
	if p == nil {
		return "", false
	}
	for _, k := range []problem.Kind{problem.Conflict, problem.RateLimited} {
		if errors.Is(p, k) {
			return a.String(), true
		}
	}
	return a.String(), a.Status >= 500
}
