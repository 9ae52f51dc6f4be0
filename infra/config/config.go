// Package config reads a process's settings from its environment.
//
// A setting is PREFIX_NAME; PREFIX_NAME_FILE names a file that holds the value,
// which is how secrets come. A variable with the prefix that no setting has
// stops the start, with the nearest name that exists: a typing error in
// production must not become a default.
package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

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

// Load fills into (a pointer to a struct with `env`, `envDefault` and `help`
// tags) from the variables in environ (os.Environ's form) that start with
// prefix, e.g. "ROUTER_". It then calls into's Validate method if it has one.
func Load(prefix string, environ []string, into any) error {
	vars, err := collect(prefix, environ, Names(into))
	if err != nil {
		return err
	}
	if err := env.ParseWithOptions(into, env.Options{Prefix: prefix, Environment: vars}); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if v, ok := into.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	return nil
}

// collect resolves _FILE variables and refuses unknown ones.
func collect(prefix string, environ, known []string) (map[string]string, error) {
	vars, fromFile := map[string]string{}, map[string]bool{}
	for _, kv := range environ {
		full, value, _ := strings.Cut(kv, "=")
		name, ours := strings.CutPrefix(full, prefix)
		if !ours {
			continue
		}
		base, isFile := strings.CutSuffix(name, "_FILE")
		switch {
		case slices.Contains(known, name):
			isFile = false // a setting that is called so
		case isFile && slices.Contains(known, base):
			b, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("configuration: %s: %w", full, err)
			}
			full, value = prefix+base, strings.TrimSpace(string(b))
		default:
			near, _ := Nearest(name, known)
			return nil, fmt.Errorf("configuration: unknown variable %s (did you mean %s%s?)", full, prefix, near)
		}
		if _, twice := vars[full]; twice && fromFile[full] != isFile {
			return nil, fmt.Errorf("configuration: %s and %[1]s_FILE are both set", full)
		}
		vars[full], fromFile[full] = value, isFile
	}
	return vars, nil
}

// Names lists the settings of the struct behind into, without the prefix.
func Names(into any) []string {
	var names []string
	for f := range fields(into) {
		names = append(names, f.name)
	}
	return names
}

type field struct {
	name, def, help string
	value           reflect.Value
}

func fields(into any) func(yield func(field) bool) {
	v := reflect.Indirect(reflect.ValueOf(into))
	return func(yield func(field) bool) {
		for i := range v.NumField() {
			t := v.Type().Field(i)
			name, _, _ := strings.Cut(t.Tag.Get("env"), ",")
			if name == "" {
				continue
			}
			if !yield(field{name, t.Tag.Get("envDefault"), t.Tag.Get("help"), v.Field(i)}) {
				return
			}
		}
	}
}

// Print writes each setting with its value (secrets masked), default and meaning.
func Print(w io.Writer, prefix string, into any) {
	for f := range fields(into) {
		source := "set"
		if f.isDefault() {
			source = "default"
		}
		fmt.Fprintf(w, "%s%s=%v\t# %s; %s\n", prefix, f.name, f.value.Interface(), source, f.help)
	}
}

// isDefault reports whether the setting has its default's value, which may be
// written in more ways than one (60m is 1h0m0s).
func (f field) isDefault() bool {
	if f.def == "" {
		return f.value.IsZero()
	}
	if d, ok := f.value.Interface().(time.Duration); ok {
		def, err := time.ParseDuration(f.def)
		return err == nil && d == def
	}
	return fmt.Sprint(f.value.Interface()) == f.def
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
