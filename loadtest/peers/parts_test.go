package peers

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"testing"
)

// A part whose functions have moved would cost nothing.
func TestPartsAreTheRoutersFunctions(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the router's binary")
	}
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "nm", filepath.Join(binaries(t), "router")).Output() //nolint:gosec // ours
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		for _, of := range p.of {
			if !regexp.MustCompile(of).Match(out) {
				t.Errorf("%s: the router has no function like %s", p.kind, of)
			}
		}
	}
}

// A part costs what all functions cost that it calls, of whatever they are.
func TestAPartIsAllThatItCalls(t *testing.T) {
	t.Parallel()
	p := pprof.NewProfile(t.Name())
	counted(func() { sampleHere(p, 1) })
	counted(func() { sampleThere(p, 2) })
	relayed(func() { sampleHere(p, 3) })
	file := filepath.Join(t.TempDir(), "profile")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteTo(f, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	list := []part{{kind: "counted", of: []string{`peers\.counted$`}}, {kind: "nothing", of: []string{`peers\.nothing`}}}
	got, err := shares(t.Context(), file, list, 6)
	if _, seen := got["nothing"]; err != nil || seen || math.Abs(got["counted"]-100) > 0.1 {
		t.Errorf("got %v, %v; 3 samples of 6 are the part's, as much as the others", got, err)
	}
	if got, err := shares(t.Context(), file, list, 7); err == nil {
		t.Errorf("got %v of fewer samples than are enough", got)
	}
}

//go:noinline
func counted(f func()) { f() }

//go:noinline
func relayed(f func()) { f() }

//go:noinline
func sampleHere(p *pprof.Profile, n int) {
	for range n {
		p.Add(new(int), 1)
	}
}

//go:noinline
func sampleThere(p *pprof.Profile, n int) {
	for range n {
		p.Add(new(int), 1)
	}
}
