package loadtest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
)

// maxNamed bounds how many faults of one kind a check names; it counts all.
const maxNamed = 5

// A Check compares what was acknowledged with what is there.
type Check struct {
	Acknowledged int      `json:"acknowledged"` // writes
	Rows         int      `json:"rows"`         // projects and tasks found
	Lost         int      `json:"lost"`         // acknowledged and not there, or in another state
	Doubled      int      `json:"doubled"`      // there more than once
	Unknown      int      `json:"unknown"`      // there, and never acknowledged
	Named        []string `json:"named,omitempty"`
}

// OK reports whether every acknowledged write is there exactly once and nothing else is.
func (c Check) OK() bool { return c.Lost == 0 && c.Doubled == 0 && c.Unknown == 0 }

// Plus adds up two checks.
func (c Check) Plus(d Check) Check {
	return Check{
		Acknowledged: c.Acknowledged + d.Acknowledged, Rows: c.Rows + d.Rows, Lost: c.Lost + d.Lost,
		Doubled: c.Doubled + d.Doubled, Unknown: c.Unknown + d.Unknown, Named: append(c.Named, d.Named...),
	}
}

func (c *Check) fault(n *int, format string, args ...any) {
	*n++
	if len(c.Named) < maxNamed {
		c.Named = append(c.Named, fmt.Sprintf(format, args...))
	}
}

// A row is a project or a task as the API shows it.
type row struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Title string `json:"title"`
	State string `json:"state"`
}

// Check reads everything that the tenant has and compares it with its writes.
// It must not be called while Work runs.
func (t *Tenant) Check(ctx context.Context) (Check, error) {
	writes := t.Writes()
	c := Check{Acknowledged: len(writes)}
	found := map[string]int{}    // by name
	state := map[string]string{} // by subject
	projects, err := t.list(ctx, "/v1/projects")
	if err != nil {
		return c, err
	}
	for _, p := range projects {
		found[p.Name]++
		tasks, err := t.list(ctx, "/v1/projects/"+p.ID+"/tasks")
		if err != nil {
			return c, err
		}
		for _, task := range tasks {
			found[task.Title]++
			state["task/"+task.ID] = task.State
		}
		c.Rows += 1 + len(tasks)
	}
	c.compare(writes, found, state)
	return c, nil
}

// compare takes each acknowledged row out of found; what stays was never acknowledged.
func (c *Check) compare(writes []Write, found map[string]int, state map[string]string) {
	want := map[string]string{}
	for _, w := range writes {
		if w.State != "" {
			want[w.Subject] = w.State // the last one stands
		}
		if w.Verb != Created {
			continue
		}
		switch n := found[w.Name]; {
		case n == 0:
			c.fault(&c.Lost, "%s (%s) was acknowledged and is not there", w.Subject, w.Name)
		case n > 1:
			c.fault(&c.Doubled, "%s (%s) is there %d times", w.Subject, w.Name, n)
		}
		delete(found, w.Name)
	}
	for subject, s := range want {
		if got, there := state[subject]; there && got != s {
			c.fault(&c.Lost, "%s was acknowledged in state %s and is in %s", subject, s, got)
		}
	}
	for name := range found {
		c.fault(&c.Unknown, "%q was never acknowledged", name)
	}
}

// pageSize is how many rows a check asks for at a time.
const pageSize = 100

// list reads all pages of a collection.
func (t *Tenant) list(ctx context.Context, path string) ([]row, error) {
	var all []row
	for cursor := ""; ; {
		var page struct {
			Items      []row  `json:"items"`
			NextCursor string `json:"next_cursor"`
		}
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		if err := t.get(ctx, path+"?"+query.Encode(), &page); err != nil {
			return nil, fmt.Errorf("list %s of %s: %w", path, t.Slug, err)
		}
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all, nil
		}
		cursor = page.NextCursor
	}
}
