package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellway/cellway/infra/stack"
)

// guide shows where everything is and three things to try, each of which can be
// copied into a shell as it stands.
func guide(out io.Writer, st stack.State, binDir string, took time.Duration) error {
	config, err := writeContext(st)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nCellway runs, started in %v. Logs: %s\n\n", took.Round(100*time.Millisecond), filepath.Join(st.Dir, "log"))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tURL\tADMIN")
	for _, p := range parts(st) {
		if p.url != "" {
			fmt.Fprintf(w, "%s\t%s\t%s\n", p.name, p.url, p.admin)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i, try := range things(st, config, binDir) {
		fmt.Fprintf(out, "\n%d. %s\n   %s\n", i+1, try.what, try.command)
	}
	_, err = fmt.Fprintln(out, "\nCtrl-C stops everything.")
	return err
}

// A thing to try is a sentence and a line for the shell.
type thing struct{ what, command string }

func things(st stack.State, config, binDir string) []thing {
	const json = `-H 'Content-Type: application/json'`
	curl := "curl -s"
	if st.Authority != "" {
		curl += " --cacert " + quote(st.Authority)
	}
	return []thing{
		{
			"Sign a tenant up; its token serves for all that follows:",
			fmt.Sprintf(`TOKEN=$(%s %s/signup %s -d '{"slug":"acme-'$(date +%%s)'","name":"Acme"}' | sed 's/.*"token": *"\([^"]*\)".*/\1/')`, curl, st.Endpoint, json),
		},
		{
			"Create a project at the one endpoint; the router finds the tenant's cell:",
			fmt.Sprintf(`%s %s/v1/projects -H "Authorization: Bearer $TOKEN" %s -d '{"name":"Moon"}'`, curl, st.Endpoint, json),
		},
		{
			"See the cells, and how many tenants each has:",
			fmt.Sprintf("CELLCTL_CONFIG=%s %s cell list", quote(config), quote(sibling(binDir, "cellctl"))),
		},
	}
}

// quote makes a path one word of the shell.
func quote(path string) string {
	if !strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || strings.ContainsRune("'\"\\`$&|;<>()*?[]#~!{}", c) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// sibling is the path of another program of ours, short where it can be.
func sibling(binDir, name string) string {
	if binDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return name
		}
		binDir = filepath.Dir(exe)
	}
	path := filepath.Join(binDir, name)
	cwd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(cwd, path); err == nil && filepath.IsLocal(rel) && filepath.Base(rel) != rel {
		return rel
	}
	return path
}

// writeContext writes a configuration of cellctl for this stack: it holds the
// operator's token, which a command line would show to everybody.
func writeContext(st stack.State) (string, error) {
	path := filepath.Join(st.Dir, "cellctl.yaml")
	text := fmt.Sprintf("current-context: local\ncontexts:\n  local:\n    addr: %s\n    router: %s\n    token: %s\n",
		st.Directory.URL, st.Routers[0].Admin, st.OperatorToken)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write cellctl's configuration: %w", err)
	}
	return path, nil
}

// A part is one process that a stack should have.
type part struct{ name, url, admin string }

// parts are the processes of a stack in the order in which a request meets them.
func parts(st stack.State) []part {
	var out []part
	for _, r := range st.Routers {
		out = append(out, part{r.ID, r.URL, r.Admin})
	}
	out = append(out, part{"directory", st.Directory.URL, st.Directory.Admin}, part{name: "directory-postgres"})
	for _, m := range st.Movers {
		out = append(out, part{name: m.ID, admin: m.Admin})
	}
	for _, c := range st.Cells {
		out = append(out, part{c.ID, c.URL, c.Admin}, part{name: c.ID + "-worker", admin: c.WorkerAdmin},
			part{name: c.ID + "-postgres"}, part{name: c.ID + "-redis"})
	}
	return out
}
