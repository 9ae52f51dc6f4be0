// Package config reads a process's settings from its environment.
//
// A setting is PREFIX_NAME; PREFIX_NAME_FILE names a file that holds the value,
// which is how secrets come. A variable with the prefix that no setting has
// stops the start, with the nearest name that exists: a typing error in
// production must not become a default.
package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// A Secret prints as asterisks, whatever prints it.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "********"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the value from JSON and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Load fills into (a pointer to a struct with `env`, `envDefault`, `unit` and `help`
// tags) from the variables in environ (os.Environ's form) that start with
// prefix, e.g. "ROUTER_". It then calls into's Validate method if it has one.
func Load(prefix string, environ []string, into any) error {
	_, err := load(prefix, environ, into)
	return err
}

// load is Load. It tells where each value is from: env, file and which, or default.
func load(prefix string, environ []string, into any) (sources map[string]string, err error) {
	vars, files, err := collect(prefix, environ, Names(into))
	if err != nil {
		return nil, err
	}
	sources = map[string]string{}
	options := env.Options{Prefix: prefix, Environment: vars, OnSet: func(name string, _ any, isDefault bool) {
		switch _, set := vars[name]; {
		case !set || isDefault: // an empty variable stands for the default
			sources[name] = "default"
		case files[name] != "":
			sources[name] = "file " + files[name]
		default:
			sources[name] = "env"
		}
	}}
	if err := env.ParseWithOptions(into, options); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if v, ok := into.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	return sources, nil
}

// collect resolves _FILE variables, telling which file was read for what, and
// refuses unknown ones.
func collect(prefix string, environ, known []string) (vars, files map[string]string, err error) {
	vars, files = map[string]string{}, map[string]string{}
	for _, kv := range environ {
		full, value, _ := strings.Cut(kv, "=")
		name, ours := strings.CutPrefix(full, prefix)
		if !ours {
			continue
		}
		base, isFile := strings.CutSuffix(name, "_FILE")
		file := ""
		switch {
		case slices.Contains(known, name): // also one that is called so
		case isFile && slices.Contains(known, base):
			b, err := os.ReadFile(value)
			if err != nil {
				return nil, nil, fmt.Errorf("configuration: %s: %w", full, err)
			}
			file, full, value = value, prefix+base, strings.TrimSpace(string(b))
		default:
			near, _ := Nearest(name, known)
			return nil, nil, fmt.Errorf("configuration: unknown variable %s (did you mean %s%s?)", full, prefix, near)
		}
		if _, twice := vars[full]; twice && (files[full] == "") != (file == "") {
			return nil, nil, fmt.Errorf("configuration: %s and %[1]s_FILE are both set", full)
		}
		vars[full], files[full] = value, file
	}
	return vars, files, nil
}

// Names lists the settings of the struct behind into, without the prefix.
func Names(into any) []string {
	var names []string
	for f := range fields(into) {
		names = append(names, f.name)
	}
	return names
}

// Nearest is the known name with the least edit distance to name, and that
// distance; "" where none is known.
func Nearest(name string, known []string) (best string, dist int) {
	dist = 1 << 30
	for _, k := range known {
		if d := distance(name, k); d < dist {
			best, dist = k, d
		}
	}
	return best, dist
}

// distance is Levenshtein's edit distance, one row at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := prev
			if a[i-1] != b[j-1] {
				cost++
			}
			prev, row[j] = row[j], min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
