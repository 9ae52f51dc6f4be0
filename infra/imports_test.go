package infra_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cellway/cellway/"

// contexts are the bounded contexts inside the cell: none imports another.
var contexts = []string{"cell/identity", "cell/billing", "cell/notifications", "cell/webhooks", "cell/reporting", "cell/projects"}

// faceOfDirectory is what routers and cells may use of the directory.
var faceOfDirectory = []string{"directory", "directory/client", "directory/consul", "directory/token"}

// asAModule stands for a module in a cell, with what those have of it (decision 39).
const asAModule = "loadtest/chaos/keeper"

var faceToModules = []string{"cell/keep", "cell/store"}

type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// TestImportRule holds the rule of docs/ARCHITECTURE.md: who may import whom.
func TestImportRule(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(p.Imports, module+"cell") && !within(from, "cell/cmd/cell") && !slices.ContainsFunc(contexts, func(c string) bool { return within(from, c) }) {
			t.Errorf("%s imports cell, as bounded contexts do, and is not among them: name it in contexts", from)
		}
		for _, to := range ours(p.Imports) {
			if why := forbidden(from, to, false); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
		for _, to := range ours(append(p.TestImports, p.XTestImports...)) {
			if why := forbidden(from, to, true); why != "" {
				t.Errorf("test of %s imports %s: %s", from, to, why)
			}
		}
	}
}

// TestOnlyTheRouterHasTheWAF: its rules are 12 MB of a binary. Who imports the router's
// packages is held by the import rule.
func TestOnlyTheRouterHasTheWAF(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		for _, to := range p.Imports {
			if strings.HasPrefix(to, "github.com/corazawaf/") && p.ImportPath != module+"router/guard/waf" {
				t.Errorf("%s imports %s", p.ImportPath, to)
			}
		}
	}
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("read package list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func ours(imports []string) []string {
	var out []string
	for _, i := range imports {
		if path, ok := strings.CutPrefix(i, module); ok {
			out = append(out, path)
		}
	}
	return out
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// forbidden says why from must not import to, or "".
func forbidden(from, to string, test bool) string {
	switch {
	case strings.Contains("/"+to+"/", "/cmd/") && !within(to, parentCmd(from)):
		return "nobody imports a cmd"
	case forTests(to) && !test && !forTests(from):
		return "for tests only"
	}
	if i := slices.IndexFunc(contexts, func(c string) bool { return within(to, c) }); i >= 0 && !within(from, contexts[i]) && !within(from, "cell/cmd/cell") &&
		(!test || from != "cell") { // the cell itself is tested with a real module
		return "only cell/cmd/cell knows a bounded context"
	}
	allowed := map[string][]string{
		"infra":     {"infra"},
		"directory": {"infra", "directory"},
		"router":    append([]string{"infra", "router"}, faceOfDirectory...),
		"cell":      append([]string{"infra", "cell"}, faceOfDirectory...),
		"loadtest":  {"infra", "directory", "directory/client", "loadtest"},
	}
	if from == asAModule && slices.Contains(faceToModules, to) {
		return ""
	}
	top, _, _ := strings.Cut(from, "/")
	if test && within(to, "directory/directorytest") && top != "infra" {
		return ""
	}
	for _, a := range allowed[top] {
		if to == a || within(to, a) && (a == top || a == "infra") {
			return ""
		}
	}
	return "not in the import rule"
}

// parentCmd is the command that from belongs to: its own packages are its own affair.
func parentCmd(from string) string {
	parts := strings.Split(from, "/")
	if i := slices.Index(parts, "cmd"); i >= 0 && i+1 < len(parts) {
		return strings.Join(parts[:i+2], "/")
	}
	return "\x00"
}

// forTests reports whether a package is there for tests.
func forTests(path string) bool {
	return within(path, "infra/testkit") || within(path, "directory/directorytest") || within(path, "cell/store/storetest")
}
