package router

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/infra/telemetry"
)

// cellCounts are the metrics of one cell's requests, found once and not by their
// labels for each request.
type cellCounts struct {
	requests *prometheus.CounterVec
	cell     string
	codes    [600]atomic.Pointer[prometheus.Counter]
	duration *telemetry.Histogram
}

// code is the counter of a status.
func (c *cellCounts) code(status int) prometheus.Counter {
	if status < 0 || status >= len(c.codes) {
		return c.requests.WithLabelValues(c.cell, "other")
	}
	if p := c.codes[status].Load(); p != nil {
		return *p
	}
	one := c.requests.WithLabelValues(c.cell, strconv.Itoa(status))
	c.codes[status].Store(&one)
	return one
}

// cells has the counts of each cell. There are as many as the directory has had cells.
type cells struct {
	requests *prometheus.CounterVec
	duration *prometheus.Desc
	bounds   []float64

	all  atomic.Pointer[map[string]*cellCounts] // never changed after it is stored
	grow sync.Mutex
}

// of is the counts of a cell; "" is that of requests without one.
func (c *cells) of(cell string) *cellCounts {
	if cell == "" {
		cell = "none"
	}
	if all := c.all.Load(); all != nil {
		if one := (*all)[cell]; one != nil {
			return one
		}
	}
	return c.add(cell)
}

func (c *cells) add(cell string) *cellCounts {
	c.grow.Lock()
	defer c.grow.Unlock()
	next := map[string]*cellCounts{}
	if all := c.all.Load(); all != nil {
		if one := (*all)[cell]; one != nil {
			return one
		}
		maps.Copy(next, *all)
	}
	one := &cellCounts{requests: c.requests, cell: cell}
	one.duration = telemetry.NewHistogram(c.duration, c.bounds, prometheus.MakeLabelPairs(c.duration, []string{cell}))
	next[cell] = one
	c.all.Store(&next)
	return one
}

// Describe implements prometheus.Collector, for the durations.
func (c *cells) Describe(ch chan<- *prometheus.Desc) { ch <- c.duration }

// Collect implements prometheus.Collector.
func (c *cells) Collect(ch chan<- prometheus.Metric) {
	if all := c.all.Load(); all != nil {
		for _, one := range *all {
			ch <- one.duration
		}
	}
}
