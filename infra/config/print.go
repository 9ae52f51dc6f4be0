package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A field is one setting.
type field struct {
	name, def, unit, help string
	required              bool
	value                 reflect.Value
}

func fields(into any) func(yield func(field) bool) {
	v := reflect.Indirect(reflect.ValueOf(into))
	return func(yield func(field) bool) {
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			name, options, _ := strings.Cut(tag.Get("env"), ",")
			if name == "" {
				continue
			}
			required := slices.Contains(strings.Split(options, ","), "required")
			if !yield(field{name, tag.Get("envDefault"), tag.Get("unit"), tag.Get("help"), required, v.Field(i)}) {
				return
			}
		}
	}
}

// printValues writes each setting with its value (secrets masked), where that is
// from, and its meaning.
func printValues(w io.Writer, prefix string, into any, sources map[string]string) {
	for f := range fields(into) {
		fmt.Fprintf(w, "%s%s=%v\t# %s; %s\n", prefix, f.name, f.value.Interface(), sources[prefix+f.name], f.help)
	}
}

// printTable writes what settings there are as a table in Markdown.
func printTable(w io.Writer, prefix string, into any) {
	fmt.Fprint(w, "| setting | default | unit | meaning |\n|---|---|---|---|\n")
	for f := range fields(into) {
		def := "-"
		switch {
		case f.required:
			def = "required"
		case f.def != "":
			def = "`" + f.def + "`"
		}
		fmt.Fprintf(w, "| `%s%s` | %s | %s | %s |\n", prefix, f.name, def, f.kind(), strings.ReplaceAll(f.help, "|", `\|`))
	}
}

// kind is what a value counts, or else what it is.
func (f field) kind() string {
	switch f.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case Secret:
		return "secret"
	}
	if f.unit != "" {
		return f.unit
	}
	if f.value.CanInt() || f.value.CanFloat() {
		return "?" // the test of docs/SETTINGS.md finds it
	}
	return "text"
}
