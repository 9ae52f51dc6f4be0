package stack

import (
	"errors"
	"strings"
	"testing"
)

func TestRoute(t *testing.T) {
	t.Parallel()
	if got, err := (Options{}).route("c1", "own"); got != "own" || err != nil {
		t.Errorf("no route: got %q, %v, want the database's own", got, err)
	}
	o := Options{Route: func(name, url string) (string, error) { return name + " by way of a proxy to " + url, nil }}
	if got, err := o.route("c1", "own"); got != "c1 by way of a proxy to own" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	o.Route = func(string, string) (string, error) { return "", errors.New("no port left") }
	if _, err := o.route("c1", "own"); err == nil || !strings.Contains(err.Error(), "c1") {
		t.Errorf("got %v, want an error that names the database", err)
	}
}
