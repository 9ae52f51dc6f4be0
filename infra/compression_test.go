package infra_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestTheRouterDecompressesNothing reads the code of what the router is made of: nothing there
// has a decoder, and each client of net/http's is told to be none (X21).
func TestTheRouterDecompressesNothing(t *testing.T) {
	t.Parallel()
	files, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "--", "router/*.go", "directory/client/*.go", ":!*_test.go").Output()
	if err != nil {
		t.Skipf("this is no git checkout: %v", err)
	}
	transports := 0
	for path := range strings.Lines(string(files)) {
		path = strings.TrimSpace(path)
		file, err := parser.ParseFile(token.NewFileSet(), "../"+path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); strings.Contains(name, "compress") || strings.Contains(name, "brotli") {
				t.Errorf("%s imports %s", path, name)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				switch ofHTTP(n.Type) {
				case "Transport":
					if transports++; !sets(n, "DisableCompression", "true") {
						t.Errorf("%s: a transport without DisableCompression", path)
					}
				case "Client":
					if !sets(n, "Transport", "") {
						t.Errorf("%s: a client with net/http's own transport", path)
					}
				}
			case *ast.SelectorExpr:
				switch ofHTTP(n) {
				case "DefaultTransport":
					if path != "router/guard/fetcher.go" { // its clone is tested there
						t.Errorf("%s uses net/http's own transport", path)
					}
				case "DefaultClient", "Get", "Head", "Post", "PostForm":
					t.Errorf("%s uses net/http's own client", path)
				}
			}
			return true
		})
	}
	if transports < 3 { // to cells, for sign-ups, to the directory
		t.Errorf("%d transports were found in the code: this test has to learn how they are written now", transports)
	}
}

// ofHTTP is the name of something of net/http's, "" for what is none.
func ofHTTP(e ast.Expr) string {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "http" {
		return ""
	}
	return sel.Sel.Name
}

// sets reports whether a literal gives field a value, which may be any where it is "".
func sets(l *ast.CompositeLit, field, value string) bool {
	for _, e := range l.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		name, _ := kv.Key.(*ast.Ident)
		is, _ := kv.Value.(*ast.Ident)
		if name != nil && name.Name == field && (value == "" || is != nil && is.Name == value) {
			return true
		}
	}
	return false
}
