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

	"github.com/caarlos0/env/v11"
)

// A Secret prints as asterisks.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "********"
}

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
	vars := map[string]string{}
	for _, kv := range environ {
		full, value, _ := strings.Cut(kv, "=")
		name, ours := strings.CutPrefix(full, prefix)
		if !ours {
			continue
		}
		if base, isFile := strings.CutSuffix(name, "_FILE"); isFile && !slices.Contains(known, name) && slices.Contains(known, base) {
			b, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("configuration: %s: %w", full, err)
			}
			vars[prefix+base] = strings.TrimSpace(string(b))
			continue
		}
		if !slices.Contains(known, name) {
			near, _ := Nearest(name, known)
			return nil, fmt.Errorf("configuration: unknown variable %s (did you mean %s%s?)", full, prefix, near)
		}
		vars[full] = value
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
		if got := fmt.Sprint(f.value.Interface()); got == f.def || (f.def == "" && f.value.IsZero()) {
			source = "default"
		}
		fmt.Fprintf(w, "%s%s=%v\t# %s; %s\n", prefix, f.name, f.value.Interface(), source, f.help)
	}
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
