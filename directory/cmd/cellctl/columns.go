package main

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
)

// chosen are the columns to show: those that --columns names, in its order, else those of
// the format. A table beside the one that is asked for may have none of them: it is whole.
func (v view[T]) chosen(a *app) []column[T] {
	var columns []column[T]
	for _, name := range a.flags.columns {
		if i := v.column(name); i >= 0 {
			columns = append(columns, v.columns[i])
		}
	}
	if len(columns) > 0 {
		return columns
	}
	return slices.DeleteFunc(slices.Clone(v.columns), func(c column[T]) bool { return c.wide && a.flags.output == "table" })
}

// lacks is an error where --columns names one that there is not.
func (v view[T]) lacks(a *app) error {
	for _, name := range a.flags.columns {
		if v.column(name) < 0 {
			var titles []string
			for _, c := range v.columns {
				titles = append(titles, c.title)
			}
			return usage("there are: "+strings.Join(titles, ", "), "no column %q", name)
		}
	}
	return nil
}

func (v view[T]) column(name string) int {
	return slices.IndexFunc(v.columns, func(c column[T]) bool { return strings.EqualFold(c.title, strings.TrimSpace(name)) })
}

// noColumns notes a column that --columns names and none of several tables has.
func (a *app) noColumns(tables ...func(name string) int) {
	for _, name := range a.flags.columns {
		if !slices.ContainsFunc(tables, func(column func(string) int) bool { return column(name) >= 0 }) {
			a.note("no column %q", name)
		}
	}
}

// csv prints items, quoted by RFC 4180, each column that there is unless some are asked for:
// then these and no others, for who reads it counts them. What is nothing, or no column, is
// empty; the header is there also where no item is.
func (v view[T]) csv(a *app, items []T) {
	columns, now := v.chosen(a), a.now()
	if err := v.lacks(a); err != nil {
		a.note("%s", err) // what was asked for is done all the same
		columns = nil
		for _, name := range a.flags.columns {
			c := column[T]{title: name, text: func(T, clock) string { return "" }}
			if i := v.column(name); i >= 0 {
				c = v.columns[i]
			}
			columns = append(columns, c)
		}
	}
	w := csv.NewWriter(a.out)
	line := func(text func(column[T]) string) {
		var fields []string
		for _, c := range columns {
			fields = append(fields, text(c))
		}
		if len(fields) == 1 && fields[0] == "" { // readers skip a line of nothing
			w.Flush()
			fmt.Fprintln(a.out, `""`)
			return
		}
		_ = w.Write(fields) // a.out keeps the error
	}
	if !a.flags.noHeaders {
		line(func(c column[T]) string { return c.title })
	}
	for _, item := range items {
		line(func(c column[T]) string { return printable(c.text(item, now)) })
	}
	w.Flush()
}
