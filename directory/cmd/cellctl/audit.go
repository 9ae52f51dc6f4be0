package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var auditView = view[directory.AuditEntry]{
	kind: "AuditEntry",
	name: func(e directory.AuditEntry) string { return "audit/" + auditID(e) },
	columns: []column[directory.AuditEntry]{
		{title: "id", text: func(e directory.AuditEntry, _ clock) string { return auditID(e) }},
		{title: "age", text: func(e directory.AuditEntry, now clock) string { return age(now, e.At) }},
		{title: "actor", text: func(e directory.AuditEntry, _ clock) string { return e.Actor }},
		{title: "action", text: func(e directory.AuditEntry, _ clock) string { return e.Action }},
		{title: "subject", text: func(e directory.AuditEntry, _ clock) string { return e.Subject }},
		{title: "before", wide: true, text: func(e directory.AuditEntry, _ clock) string { return e.Before }},
		{title: "after", wide: true, text: func(e directory.AuditEntry, _ clock) string { return e.After }},
		dated("at", func(e directory.AuditEntry) time.Time { return e.At }),
	},
}

func (a *app) auditCommand() *cobra.Command {
	var subject string
	var limit int
	var after int64
	list := &cobra.Command{
		Use: "list", Short: "List the changes: who did what, newest first", Args: names(),
		Example: "  cellctl audit list --subject tenant/acme -o wide\n  cellctl audit list --after 120 -o json",
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			if limit < 0 {
				return usage("0 is all", "--limit must not be negative")
			}
			about, err := auditSubject(ctx, d, subject)
			if err != nil {
				return err
			}
			entries, more, err := newestAudit(ctx, d, about, after, limit)
			if err != nil {
				return err
			}
			if more {
				a.note("there are more than %d; --limit 0 shows all", limit)
			}
			return auditView.list(a, entries, map[string]bool{"more": more})
		}),
	}
	list.Flags().StringVar(&subject, "subject", "", "only changes of this: tenant/acme, tenant/17, cell/c1")
	list.Flags().IntVar(&limit, "limit", 100, "at most so many of the newest; 0 is all")
	list.Flags().Int64Var(&after, "after", 0, "only entries with a higher id (a change may come later than one with a higher id)")
	return group(&cobra.Command{Use: "audit", Short: "Audit: every change to the directory"}, list)
}

// auditSubject puts the id, under which the audit knows a tenant, for its name.
func auditSubject(ctx context.Context, d api, subject string) (string, error) {
	ref, ok := strings.CutPrefix(subject, "tenant/")
	if !ok {
		return subject, nil
	}
	if _, err := directory.ParseTenantID(ref); err == nil {
		return subject, nil
	}
	t, err := findTenant(ctx, d, ref)
	if err != nil {
		return "", err
	}
	return "tenant/" + t.ID.String(), nil
}

// newestAudit reads page after page, newest first; more reports whether limit has cut off
// the end. after is an id.
func newestAudit(ctx context.Context, d api, subject string, after int64, limit int) (entries []directory.AuditEntry, more bool, err error) {
	before := int64(0)
	for {
		page, err := d.NewestAudit(ctx, subject, before, pageSize)
		if err != nil {
			return nil, false, err
		}
		// One of a release before does not know the order: its oldest would be taken for the newest.
		last := before
		for _, e := range page {
			if last != 0 && e.ID >= last {
				return nil, false, hinted{problem.New(problem.Conflict, "the directory does not tell its newest lines first"), "update the directory: its release is older than cellctl's"}
			}
			last = e.ID
		}
		for _, e := range page {
			switch {
			case e.ID <= after:
				return entries, false, nil
			case limit > 0 && len(entries) == limit:
				return entries, true, nil
			}
			entries = append(entries, e)
			before = e.ID
		}
		if len(page) < pageSize {
			return entries, false, nil
		}
	}
}

func auditID(e directory.AuditEntry) string { return strconv.FormatInt(e.ID, 10) }
