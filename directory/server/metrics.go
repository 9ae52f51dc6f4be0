package server

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
)

// metrics are what the server counts itself.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	later    *prometheus.CounterVec
	lifted   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, d directory.Directory, r directory.Rollouts) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "directory_http_requests_total", Help: "Requests answered.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "directory_http_request_duration_seconds", Help: "Time to answer a request; long polls include their wait.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10), NativeHistogramBucketFactor: 1.1,
		}, []string{"route", "method"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "directory_tenants_refused_total",
			Help: "Tenants not created, by the bound that was met: address_rate, caller_rate, caller_quota, directory_quota.",
		}, []string{"reason"}),
		later: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "directory_later_tenants_total",
			Help: "Times that a cell knew of a tenant with a greater id than any that was given: ids go on above it (raised), or it is not believed (refused).",
		}, []string{"outcome"}),
		lifted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "directory_table_lifted_total",
			Help: "Times that a router served a newer table than the record's, whose version was lifted above it: the record was restored.",
		}),
	}
	m.later.WithLabelValues("raised")
	m.later.WithLabelValues("refused")
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.later), reg.Register(m.lifted), reg.Register(m.refused), reg.Register(m.duration), reg.Register(recordCollector{d, r}))
}

// knownMethods bounds the method label: a peer may send any word.
var knownMethods = map[string]bool{"GET": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "HEAD": true, "OPTIONS": true}

func (m *metrics) observe(route, method string, code int, took time.Duration) {
	if !knownMethods[method] {
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *metrics) witnessed(w directory.Witnessed) {
	if w.Raised {
		m.later.WithLabelValues("raised").Inc()
	}
	if w.Refused {
		m.later.WithLabelValues("refused").Inc()
	}
}

// A deletionCounter is a record that counts the deletions that wait, however many there
// are: the due ones are few, and anywhere among those in their grace.
type deletionCounter interface {
	CountDeletions(ctx context.Context) (kept, due int, err error)
}

// A recordCollector reads the record when Prometheus asks.
type recordCollector struct {
	directory directory.Directory
	rollouts  directory.Rollouts // nil: none
}

var (
	versionDesc   = prometheus.NewDesc("directory_table_version", "Newest version of the table.", nil, nil)
	watermarkDesc = prometheus.NewDesc("directory_table_watermark", "Newest version that every live router serves.", nil, nil)
	routersDesc   = prometheus.NewDesc("directory_routers", "Routers by what they serve: the newest version (current), an older one (lagging), or unknown because silent.", []string{"status"}, nil)
	cellsDesc     = prometheus.NewDesc("directory_cells", "Cells that are not retired, by state and health.", []string{"state", "healthy"}, nil)
	tenantsDesc   = prometheus.NewDesc("directory_cell_tenants", "Tenants placed on the cell.", []string{"cell"}, nil)
	rolloutDesc   = prometheus.NewDesc("directory_rollout", "1 for the roll-out that is open, by its state and the wave that it has come to.", []string{"state", "wave"}, nil)
	stagedDesc    = prometheus.NewDesc("directory_rollout_routers", "Routers of the open roll-out's wave.", nil, nil)
	deletedDesc   = prometheus.NewDesc("directory_deletions_waiting", "Deleted tenants that cells have yet to purge: in their grace, or due.", []string{"due"}, nil)
	capacityDesc  = prometheus.NewDesc("directory_cell_capacity_tenants", "Tenants that the cell is sized for.", []string{"cell"}, nil)
)

// Describe implements prometheus.Collector.
func (recordCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{versionDesc, watermarkDesc, routersDesc, cellsDesc, tenantsDesc, capacityDesc, rolloutDesc, stagedDesc, deletedDesc} {
		ch <- d
	}
}

// collectTimeout bounds one look at the record.
const collectTimeout = 2 * time.Second

// Collect implements prometheus.Collector. What cannot be read is left out: the
// series end, which an alert sees.
func (c recordCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	if w, err := c.directory.Watermark(ctx); err == nil {
		collectRouters(ch, w)
	}
	if cells, err := c.directory.ListCells(ctx); err == nil {
		collectCells(ch, cells)
	}
	if d, ok := c.directory.(deletionCounter); ok {
		if kept, due, err := d.CountDeletions(ctx); err == nil {
			ch <- gauge(deletedDesc, float64(kept), "false")
			ch <- gauge(deletedDesc, float64(due), "true")
		}
	}
	if c.rollouts == nil {
		return
	}
	// The newest one: one that is open is.
	if list, err := c.rollouts.ListRollouts(ctx, 1); err == nil && len(list) == 1 && list[0].State.Open() {
		ch <- gauge(rolloutDesc, 1, string(list[0].State), string(list[0].Wave))
		ch <- gauge(stagedDesc, float64(len(list[0].Routers)))
	}
}

func collectRouters(ch chan<- prometheus.Metric, w directory.Watermark) {
	count := map[string]float64{"current": 0, "lagging": 0, "silent": 0}
	for _, r := range w.Routers {
		switch {
		case !r.Live:
			count["silent"]++
		case r.Acked < w.Version:
			count["lagging"]++
		default:
			count["current"]++
		}
	}
	ch <- gauge(versionDesc, float64(w.Version))
	ch <- gauge(watermarkDesc, float64(w.Watermark))
	for status, n := range count {
		ch <- gauge(routersDesc, n, status)
	}
}

func collectCells(ch chan<- prometheus.Metric, cells []directory.Cell) {
	type key struct {
		state   directory.CellState
		healthy bool
	}
	count := map[key]float64{}
	for _, c := range cells {
		count[key{c.State, c.Healthy}]++
		ch <- gauge(tenantsDesc, float64(c.Tenants), string(c.ID))
		ch <- gauge(capacityDesc, float64(c.Capacity), string(c.ID))
	}
	for k, n := range count {
		ch <- gauge(cellsDesc, n, string(k.state), strconv.FormatBool(k.healthy))
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
