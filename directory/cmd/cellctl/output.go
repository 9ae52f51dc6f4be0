package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	yaml "go.yaml.in/yaml/v4"

	"github.com/cellway/cellway/infra/run"
)

var formats = []string{"table", "wide", "csv", "json", "yaml", "name"}

func (a *app) checkFormat() error {
	switch {
	case !slices.Contains(formats, a.flags.output):
		return usage("one of "+strings.Join(formats, ", "), "unknown output format %q", a.flags.output)
	case len(a.flags.columns) > 0 && !slices.Contains([]string{"table", "wide", "csv"}, a.flags.output):
		return usage("jq chooses members of -o json", "--columns is for tables and csv")
	}
	return nil
}

// A view says how things of one kind are shown.
type view[T any] struct {
	kind    string         // "Tenant"
	name    func(T) string // "tenant/acme"
	columns []column[T]
}

// clock is the time that ages are told from.
type clock = time.Time

// A column of a table; text may use the time now to tell an age.
type column[T any] struct {
	title string
	wide  bool // only with -o wide, in csv, and where it is asked for
	text  func(item T, now clock) string
}

// one shows a single thing. next are the commands that usually follow.
func (v view[T]) one(a *app, item T, next ...string) error {
	next = a.there(next...)
	if v.isDocument(a) {
		var tail any
		if len(next) > 0 {
			tail = map[string]any{"next_steps": next}
		}
		return a.document(v.kind, item, tail)
	}
	if err := v.lacks(a); err != nil && a.flags.output != "csv" { // which says so itself
		a.note("%s", err) // what was asked for is done all the same
	}
	v.rows(a, []T{item})
	for _, step := range next {
		a.note("next: %s", step)
	}
	return nil
}

// list shows things of one kind; more holds further members of the document. Nothing has
// been changed: a column that there is none of is an error.
func (v view[T]) list(a *app, items []T, more any) error {
	if err := v.lacks(a); err != nil {
		return err
	}
	if v.isDocument(a) {
		if items == nil {
			items = []T{} // null would break every reader's loop
		}
		return a.document(v.kind+"List", more, map[string]any{"items": items})
	}
	v.rows(a, items)
	return nil
}

func (v view[T]) isDocument(a *app) bool { return a.flags.output == "json" || a.flags.output == "yaml" }

// rows prints items as a table, or as bare names.
func (v view[T]) rows(a *app, items []T) {
	if a.flags.output == "name" {
		for _, item := range items {
			fmt.Fprintln(a.out, v.name(item))
		}
		return
	}
	if a.flags.output == "csv" {
		v.csv(a, items)
		return
	}
	if len(items) == 0 {
		a.note("nothing to show")
		return
	}
	t, columns := newTable(), v.chosen(a)
	if !a.flags.noHeaders {
		t.AppendHeader(row(columns, func(c column[T]) string { return c.title }))
	}
	now := a.now()
	for _, item := range items {
		t.AppendRow(row(columns, func(c column[T]) string { return dash(printable(c.text(item, now))) }))
	}
	fmt.Fprintln(a.out, t.Render())
}

func row[T any](columns []column[T], text func(column[T]) string) table.Row {
	r := make(table.Row, len(columns))
	for i, c := range columns {
		r[i] = text(c)
	}
	return r
}

// newTable has no lines: columns are told apart by space, so that cut and awk work.
func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

// dash stands for nothing, so that the number of fields of a line is constant.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// document prints the members of parts, which are JSON objects or nil, as one
// object after apiVersion and kind.
func (a *app) document(kind string, parts ...any) error {
	head := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}{run.APIVersion, kind}
	joined, err := join(append([]any{head}, parts...))
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	if a.flags.output == "yaml" {
		return writeYAML(a.out, joined)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, joined, "", "  "); err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	_, err = fmt.Fprintln(a.out, buf.String())
	return err
}

// join makes one JSON object of several, keeping the order of their members.
func join(parts []any) ([]byte, error) {
	var members [][]byte
	for _, part := range parts {
		if part == nil {
			continue
		}
		b, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		if b = b[1 : len(b)-1]; len(b) > 0 {
			members = append(members, b)
		}
	}
	return slices.Concat([]byte("{"), bytes.Join(members, []byte(",")), []byte("}")), nil
}

// writeYAML prints JSON as YAML with its members in the same order.
func writeYAML(w io.Writer, document []byte) error {
	var node yaml.Node
	if err := yaml.Unmarshal(document, &node); err != nil {
		return fmt.Errorf("encode yaml: %w", err)
	}
	block(&node)
	b, err := yaml.Marshal(&node)
	if err != nil {
		return fmt.Errorf("encode yaml: %w", err)
	}
	_, err = w.Write(b)
	return err
}

// block takes JSON's braces and quotes off a node and all below it.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0
	}
	for _, child := range n.Content {
		block(child)
	}
}

// dated is a column with a point in time, beside the one with its age: who reads a csv later knows no now.
func dated[T any](title string, at func(T) time.Time) column[T] {
	return column[T]{title: title, wide: true, text: func(item T, _ clock) string {
		if t := at(item); !t.IsZero() {
			return t.UTC().Format(time.RFC3339)
		}
		return ""
	}}
}

// age is how long ago at was, as a person says it: 42s, 17m, 5h, 12d.
func age(now, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	d := max(now.Sub(at), 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
