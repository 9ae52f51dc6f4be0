package main

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	yaml "go.yaml.in/yaml/v4"
)

// A file is ~/.config/cellctl/config.yaml (or what CELLCTL_CONFIG names).
type file struct {
	Current  string              `yaml:"current-context" json:"current-context,omitempty"`
	Contexts map[string]settings `yaml:"contexts" json:"contexts,omitempty"`
}

// Settings say which Cellway is meant and who speaks to it.
type settings struct {
	Addr   string `yaml:"addr" json:"addr"`             // base URL of the directory
	Router string `yaml:"router" json:"router"`         // base URL of a router's admin listener
	Token  string `yaml:"token" json:"token,omitempty"` // an operator's
}

// settings are, for each setting, the flag, else the environment's, else the
// one of the context. A context that a flag names goes before the environment: who
// names one must not reach another's directory, nor show that one this one's token.
func (a *app) settings() (settings, error) {
	f, err := a.readFile()
	if err != nil {
		return settings{}, err
	}
	var s settings
	if name := a.contextName(f); name != "" {
		var ok bool
		if s, ok = f.Contexts[name]; !ok {
			known := slices.Sorted(maps.Keys(f.Contexts))
			return s, usage("the config file has: "+strings.Join(known, ", "), "unknown context %q", name)
		}
	}
	first, then := settings{Addr: a.getenv("CELLCTL_ADDR"), Router: a.getenv("CELLCTL_ROUTER"), Token: a.getenv("CELLCTL_TOKEN")}, s
	if a.flags.context != "" {
		first, then = then, first
	}
	return settings{
		Addr:   cmp.Or(a.flags.addr, first.Addr, then.Addr),
		Router: cmp.Or(a.flags.router, first.Router, then.Router),
		Token:  cmp.Or(a.flags.token, first.Token, then.Token),
	}, nil
}

func (a *app) contextName(f file) string {
	return cmp.Or(a.flags.context, a.getenv("CELLCTL_CONTEXT"), f.Current)
}

// there makes commands that are to follow this one ask where it has asked. Never nil. The
// token is for nobody to read.
func (a *app) there(commands ...string) []string {
	where := "cellctl "
	for _, f := range [][2]string{{"context", a.flags.context}, {"addr", a.flags.addr}} {
		if f[1] != "" {
			where += "--" + f[0] + "=" + word(f[1]) + " "
		}
	}
	out := []string{}
	for _, c := range commands {
		if rest, ok := strings.CutPrefix(c, "cellctl "); ok && !strings.HasPrefix(c, where) {
			c = where + rest
		}
		out = append(out, c)
	}
	return out
}

func (a *app) filePath() string {
	config := cmp.Or(a.getenv("XDG_CONFIG_HOME"), filepath.Join(a.getenv("HOME"), ".config"))
	return cmp.Or(a.getenv("CELLCTL_CONFIG"), filepath.Join(config, "cellctl", "config.yaml"))
}

// readFile reads the config file; one that is not there is an empty one.
func (a *app) readFile() (file, error) {
	var f file
	path := a.filePath()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, usage("", "read config: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, usage("it holds current-context and, under contexts.NAME, addr, router and token", "read config %s: %w", path, err)
	}
	return f, nil
}

func (a *app) configCommand() *cobra.Command {
	view := &cobra.Command{
		Use: "view", Short: "Show the settings in force, without the token", Args: names(),
		RunE: func(*cobra.Command, []string) error { return a.showSettings() },
	}
	return group(&cobra.Command{Use: "config", Short: "Look at cellctl's own settings"}, view)
}

func (a *app) showSettings() error {
	f, err := a.readFile()
	if err != nil {
		return err
	}
	s, err := a.settings()
	if err != nil {
		return err
	}
	if s.Token != "" {
		s.Token = "********"
	}
	v := view[settings]{
		kind: "Settings",
		name: func(settings) string { return "context/" + dash(a.contextName(f)) },
		columns: []column[settings]{
			{title: "context", text: func(settings, clock) string { return a.contextName(f) }},
			{title: "addr", text: func(s settings, _ clock) string { return s.Addr }},
			{title: "router", text: func(s settings, _ clock) string { return s.Router }},
			{title: "token", text: func(s settings, _ clock) string { return s.Token }},
			{title: "file", wide: true, text: func(settings, clock) string { return a.filePath() }},
		},
	}
	return v.one(a, s)
}
