package planner

import (
	"fmt"
	"strings"

	"github.com/cellway/cellway/directory"
)

// stays reports why t may not move at all, "" where it may.
func (f *fleet) stays(t *tenant) (Reason, string) {
	pause := f.options.Forecast(t.Load).Pause
	switch {
	case t.State != "" && t.State != directory.Active:
		return NotActive, "it is " + string(t.State)
	case t.Open.Move != "" && t.Open.Phase == directory.Watching:
		return Watched, fmt.Sprintf("the way back of move %s is open: complete or undo that first", t.Open.Move)
	case t.Open.Move != "" && t.Open.Phase == directory.Aborting:
		return Moving, fmt.Sprintf("move %s to %s is being cancelled", t.Open.Move, t.Open.To)
	case t.Open.Move != "":
		return Moving, fmt.Sprintf("move %s takes it to %s", t.Open.Move, t.Open.To)
	case !t.from.Healthy:
		return Silent, "its cell " + string(t.Cell) + " is not healthy and cannot give it away"
	case t.Pinned:
		return Pinned, "it is pinned to " + string(t.Cell)
	case pause > t.Budget:
		return NoBudget, fmt.Sprintf("a pause of %s is forecast and %s of its budget is left", pause, t.Budget)
	}
	return "", ""
}

// A bar is a rule that keeps a tenant out of a cell.
type bar int

const (
	open bar = iota
	wrongState
	unhealthy
	excluded
	wrongLocality
	wrongTier
	full
	together
	bars // how many there are
)

func (b bar) String() string {
	return [bars]string{
		"", "not ready", "not healthy", "being left", "of another locality", "of another tier", "full", "with one of its group",
	}[b]
}

// bar is the first rule that keeps t out of c, a cell that must be in state want.
func (c *cell) bar(t *tenant, want directory.CellState) bar {
	switch {
	case c.State != want:
		return wrongState
	case !c.Healthy:
		return unhealthy
	case c == t.from:
		return excluded
	case t.Locality != "" && t.Locality != c.Locality:
		return wrongLocality
	case t.Tier != "" && t.Tier != c.Tier:
		return wrongTier
	case !c.room(t):
		return full
	case t.Group != "" && c.groups[t.Group]:
		return together
	}
	return open
}

// room reports whether c could bear t besides all that it may hold on the way.
func (c *cell) room(t *tenant) bool {
	l := c.held.add(t.Load)
	within := func(have, limit float64) bool { return limit <= 0 || have <= limit }
	return c.most < c.Capacity && within(l.Requests, c.Limit.Requests) &&
		within(l.Connections, c.Limit.Connections) && (c.Limit.Bytes <= 0 || l.Bytes <= c.Limit.Bytes)
}

// A census counts which rule kept a tenant out of how many cells.
type census [bars]int

// String says it in the order of the rules: "3 full, 1 of another tier".
func (n census) String() string {
	var parts []string
	for b := wrongState; b < bars; b++ {
		if n[b] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[b], b))
		}
	}
	return strings.Join(parts, ", ")
}
