// Package mutants puts the tests of the move to the test: each of its mutants takes
// one guard out of the protocol's code, and the test that it names must fail then.
// `infra/mutants.sh` runs them; the ordinary test holds only that the table still fits
// the code. Nothing in the source tree changes: the compiler is told to read
// another file in the place of the mutated one (go build -overlay), which holds
// for embedded SQL as well.
package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is one seeded bug.
type mutant struct {
	name string
	why  string // what goes wrong with it
	in   string // a Go file, or a function of the cell's schema: its newest definition is meant
	edit []edit
	pkg  string // of the test
	test string // must fail
}

// An edit replaces the only occurrence of old.
type edit struct{ old, new string }

const root = "../.."

// source is the text that a mutant changes: of which file, all of it, and from
// where to where the edits may be.
func (m mutant) source() (path, text string, from, to int, err error) {
	if strings.HasSuffix(m.in, ".go") {
		b, err := os.ReadFile(filepath.Join(root, m.in))
		return filepath.Join(root, m.in), string(b), 0, len(b), err
	}
	files, err := filepath.Glob(filepath.Join(root, "cell/store/migrations/*.sql"))
	if err != nil {
		return "", "", 0, 0, err
	}
	define := regexp.MustCompile(`CREATE (OR REPLACE )?FUNCTION ` + regexp.QuoteMeta(m.in) + `\(`)
	for _, path := range slices.Backward(files) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", "", 0, 0, err
		}
		if at := define.FindStringIndex(string(b)); at != nil {
			end := strings.Index(string(b)[at[0]:], "-- +goose StatementEnd")
			if end < 0 {
				return "", "", 0, 0, fmt.Errorf("%s: %s has no end", path, m.in)
			}
			return path, string(b), at[0], at[0] + end, nil
		}
	}
	return "", "", 0, 0, fmt.Errorf("no migration defines %s", m.in)
}

// mutate is the file with the bug in it.
func (m mutant) mutate() (path, text string, err error) {
	path, whole, from, to, err := m.source()
	if err != nil {
		return "", "", err
	}
	part := whole[from:to]
	for _, e := range m.edit {
		if n := strings.Count(part, e.old); n != 1 {
			return "", "", fmt.Errorf("%s is %d times in %s, want once: %s", m.in, n, path, e.old)
		}
		part = strings.Replace(part, e.old, e.new, 1)
	}
	return path, whole[:from] + part + whole[to:], nil
}

// TestTableFitsTheCode holds that each mutant still changes something and that the
// test that it names is there.
func TestTableFitsTheCode(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range table {
		if names[m.name] || m.name == "" || m.why == "" {
			t.Errorf("%s: needs a name of its own and a reason", m.name)
		}
		names[m.name] = true
		if _, _, err := m.mutate(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if !defined(t, m.pkg, m.test) {
			t.Errorf("%s: no test %s in %s", m.name, m.test, m.pkg)
		}
	}
}

// defined reports whether a package has a test.
func defined(t *testing.T, pkg, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "func "+test+"(") {
			return true
		}
	}
	return false
}

// TestMutants runs each mutant's test against it; MUTANTS=1 asks for it, and
// MUTANTS=name for one.
func TestMutants(t *testing.T) {
	want := os.Getenv("MUTANTS")
	if want == "" {
		t.Skip("infra/mutants.sh runs them")
	}
	var sound baseline
	matched := false
	for _, m := range table {
		if want != "1" && want != m.name {
			continue
		}
		matched = true
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			sound.hold(t, m)
			began := time.Now()
			switch out, caught := m.run(t); {
			case caught:
				t.Logf("caught by %s in %.0f s", m.test, time.Since(began).Seconds())
			default:
				t.Errorf("SURVIVED %s: %s\n%s", m.test, m.why, out)
			}
		})
	}
	if !matched {
		t.Fatalf("no mutant is called %q", want)
	}
}

// A baseline knows which tests pass on the code as it is: what fails there as well
// is caught by nobody.
type baseline struct{ tests sync.Map }

// hold runs the mutant's test without the mutant, once for all mutants that name it.
func (b *baseline) hold(t *testing.T, m mutant) {
	t.Helper()
	once, _ := b.tests.LoadOrStore(m.pkg+"."+m.test, sync.OnceValue(func() error {
		out, err := m.check(t, "")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatalf("%s fails without a mutant: %v", m.test, err)
	}
}

// check runs the mutant's test, with overlay unless that is empty.
func (m mutant) check(t *testing.T, overlay string) (string, error) {
	args := []string{"test", "-count=1", "-timeout=5m", "-vet=off", "-run", "^" + m.test + "$", "./" + m.pkg}
	if overlay != "" {
		args = slices.Insert(args, 1, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// run runs the mutant's test and reports whether it failed: the test itself, not
// the build nor the machine.
func (m mutant) run(t *testing.T) (out string, caught bool) {
	t.Helper()
	path, text, err := m.mutate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replaced := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(replaced, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {abs: replaced}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = m.check(t, overlayFile)
	return out, err != nil && strings.Contains(out, "--- FAIL: "+m.test)
}
