package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
)

// A routerRow is a router and how many versions it is behind.
type routerRow struct {
	directory.RouterStatus
	Lag directory.Version `json:"lag"`
}

var routerView = view[routerRow]{
	kind: "Router",
	name: func(r routerRow) string { return "router/" + r.ID },
	columns: []column[routerRow]{
		{title: "name", text: func(r routerRow, _ clock) string { return r.ID }},
		{title: "live", text: func(r routerRow, _ clock) string { return yesNo(r.Live) }},
		{title: "serves", text: func(r routerRow, _ clock) string { return version(r.Acked) }},
		{title: "lag", text: func(r routerRow, _ clock) string { return version(r.Lag) }},
		{title: "seen", text: func(r routerRow, now clock) string { return age(now, r.SeenAt) }},
		dated("seen at", func(r routerRow) time.Time { return r.SeenAt }),
	},
}

func (a *app) routerCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the routers, which table each serves and who lags", Args: names(),
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			mark, err := d.Watermark(ctx)
			if err != nil {
				return err
			}
			return a.showRouters(mark)
		}),
	}
	return group(&cobra.Command{Use: "router", Aliases: []string{"routers"}, Short: "Routers: how far each follows the directory"}, list)
}

func (a *app) showRouters(mark directory.Watermark) error {
	var rows []routerRow
	var lagging []string
	for _, r := range mark.Routers {
		row := routerRow{r, mark.Version - r.Acked}
		rows = append(rows, row)
		if r.Live && row.Lag > 0 {
			lagging = append(lagging, r.ID)
		}
	}
	err := routerView.list(a, rows, struct {
		Version   directory.Version `json:"version"`
		Watermark directory.Version `json:"watermark"`
		Lagging   []string          `json:"lagging,omitempty"`
	}{mark.Version, mark.Watermark, lagging})
	if a.flags.output != "table" && a.flags.output != "wide" {
		return err
	}
	a.note("the directory is at version %d, every live router at %d or above", mark.Version, mark.Watermark)
	if len(lagging) > 0 {
		a.note("behind: %s", strings.Join(lagging, ", "))
	}
	return err
}

func version(v directory.Version) string { return strconv.FormatInt(int64(v), 10) }
