package openapi

import (
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/routers"
)

// A node is one segment of the contract's paths.
type node struct {
	fixed      map[string]*node
	variable   *node                 // any segment that is not empty
	operations map[string]*operation // by method; nil where no path ends here
}

type operation struct {
	route   routers.Route
	names   []string // of the path's variables, in their order
	singles []single
}

// grow is the node of a path, and the names of its variables.
func (n *node) grow(path string) (at *node, names []string, err error) {
	at = n
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		name, variable := strings.CutPrefix(segment, "{")
		name, closed := strings.CutSuffix(name, "}")
		switch {
		case variable && closed && name != "" && !strings.ContainsAny(name, "{}"):
			if at.variable == nil {
				at.variable = &node{}
			}
			at, names = at.variable, append(names, name)
		case strings.ContainsAny(segment, "{}"):
			return nil, nil, fmt.Errorf("path %s: a variable must be a whole segment", path)
		default:
			next, ok := at.fixed[segment]
			if !ok {
				next = &node{}
				if at.fixed == nil {
					at.fixed = map[string]*node{}
				}
				at.fixed[segment] = next
			}
			at = next
		}
	}
	if at.operations == nil {
		at.operations = map[string]*operation{}
	}
	return at, names, nil
}

// find is the node of a path, nil where there is none, and the values of its
// variables. What is written out goes before what is variable.
func (n *node) find(segments []string, values *[]string) *node {
	if len(segments) == 0 {
		if n.operations == nil {
			return nil
		}
		return n
	}
	if next, ok := n.fixed[segments[0]]; ok {
		if at := next.find(segments[1:], values); at != nil {
			return at
		}
	}
	if n.variable == nil || segments[0] == "" {
		return nil
	}
	had := len(*values)
	*values = append(*values, segments[0])
	if at := n.variable.find(segments[1:], values); at != nil {
		return at
	}
	*values = (*values)[:had]
	return nil
}
