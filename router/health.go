package router

import (
	"net/http"

	dto "github.com/prometheus/client_model/go"

	"github.com/cellway/cellway/directory"
)

// A health is what the router says of its part in a roll-out: how the requests that
// the part watches have ended since it has the part. It is read from the metrics,
// so that no request counts anything for it. One goroutine uses it.
type health struct {
	cells *cells
	part  *directory.Part
	base  directory.Report // what had been counted when the part came
}

// of is the report on a part.
func (h *health) of(p *directory.Part) directory.Report {
	now := directory.Report{Rollout: p.Rollout, Round: p.Round}
	if p.Rollout == "" {
		h.part = nil
		return now
	}
	for _, cell := range p.Watch {
		h.cells.sum(string(cell), &now)
	}
	if p != h.part {
		h.part, h.base = p, now
	}
	now.Requests -= h.base.Requests
	now.Failed -= h.base.Failed
	return now
}

// sum adds the requests of a cell to r, those without a cell where it is "".
func (c *cells) sum(cell string, r *directory.Report) {
	one := c.of(cell)
	for status := range one.codes {
		counter := one.codes[status].Load()
		if counter == nil {
			continue
		}
		var m dto.Metric
		if (*counter).Write(&m) != nil {
			continue
		}
		n := int64(m.GetCounter().GetValue())
		r.Requests += n
		if failed(cell, status) {
			r.Failed += n
		}
	}
}

// failed reports whether a status is what a wrong table leads to: the cell is not
// there or not well, refuses an assertion that is for another cell, or does not
// serve the tenant; or the router takes the tenant for suspended, or knows of none.
// Others answer so for reasons of their own, which is why it is only ever compared.
func failed(cell string, status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest:
		return true
	case http.StatusNotFound:
		return cell == ""
	}
	return status >= http.StatusInternalServerError
}
