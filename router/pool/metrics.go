package pool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What a cell's pool counts. It is read when somebody looks; requests only add
// to numbers of their cell's own.
var (
	descLimit    = cellDesc("router_cell_limit", "Requests to the cell at once that the adaptive limit allows now.")
	descInside   = cellDesc("router_cell_in_flight", "Requests at the cell now.")
	descWaiting  = cellDesc("router_cell_queue", "Requests that wait for a place at the cell now.")
	descLatency  = cellDesc("router_cell_latency_seconds", "Mean time to the head of the cell's answers in the last window of the adaptive limit.")
	descCircuit  = cellDesc("router_cell_circuit_open", "1 while the cell does not answer the router's probes: its requests fail at once.")
	descOpened   = cellDesc("router_cell_circuit_opened_total", "How often the cell's circuit has opened.")
	descProbes   = cellDesc("router_cell_probes_total", "How often the router asked the cell whether it is there.")
	descAttempts = cellDesc("router_cell_attempts_total", "Requests sent to the cell: first attempts, repeats and probes.")
	descRepeats  = cellDesc("router_cell_repeats_total", "Requests sent again because the cell had closed an idle connection, by whether the budget allowed it.", "outcome")
	descSlow     = cellDesc("router_cell_slow", "Requests at the cell now whose clients are slow: they have places of their own.")
	descCut      = cellDesc("router_cell_slow_cut_total", "Requests that were cut because their clients were slow and all places for such were taken.")
	descShed     = cellDesc("router_cell_shed_total", "Requests not sent to the cell, by class and why.", "class", "reason")
)

// What bounds the connections to all cells counts.
var (
	descOpen    = prometheus.NewDesc("router_upstream_connections", "Connections to cells now, in use and idle.", nil, nil)
	descMost    = prometheus.NewDesc("router_upstream_connections_max", "Connections to cells that there may be; 0 is no bound but the kernel's.", nil, nil)
	descDropped = prometheus.NewDesc("router_upstream_dropped_total", "Idle connections to cells that were closed because a descriptor was wanted.", nil, nil)
	descRefused = prometheus.NewDesc("router_upstream_refused_total", "Connections to cells that could not be had: all were in use.", nil, nil)
)

func cellDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"cell"}, labels...), nil)
}

// Describe describes what Collect says.
func Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descLimit, descInside, descWaiting, descLatency, descCircuit, descOpened, descProbes, descAttempts, descRepeats, descSlow, descCut, descShed,
		descOpen, descMost, descDropped, descRefused,
	} {
		ch <- d
	}
}

// Collect says how each cell is.
func (p *Pools[T]) Collect(ch chan<- prometheus.Metric) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for id, one := range p.cells {
		one.collect(string(id), ch)
	}
	if p.Files == nil {
		return
	}
	open, most, dropped, refused := p.Files.Counts()
	ch <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(open))
	ch <- prometheus.MustNewConstMetric(descMost, prometheus.GaugeValue, float64(most))
	ch <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(dropped))
	ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(refused))
}

func (p *Pool[T]) collect(cell string, ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{cell}, labels...)...)
	}
	g, c := p.gate, &p.circuit
	open := 0.0
	if c.open.Load() {
		open = 1
	}
	send(descLimit, prometheus.GaugeValue, float64(g.limit.Load()))
	send(descInside, prometheus.GaugeValue, float64(g.inside.Load()))
	send(descWaiting, prometheus.GaugeValue, float64(g.waiting.Load()))
	send(descLatency, prometheus.GaugeValue, time.Duration(g.mean.Load()).Seconds())
	send(descCircuit, prometheus.GaugeValue, open)
	send(descSlow, prometheus.GaugeValue, float64(len(p.slow.taken)))
	send(descCut, prometheus.CounterValue, float64(p.cut.Load()))
	send(descOpened, prometheus.CounterValue, float64(c.opened.Load()))
	send(descProbes, prometheus.CounterValue, float64(c.probes.Load()))
	send(descAttempts, prometheus.CounterValue, float64(p.attempts.Load()))
	send(descRepeats, prometheus.CounterValue, float64(p.budget.repeats.Load()), "ok")
	send(descRepeats, prometheus.CounterValue, float64(p.budget.refused.Load()), "no_budget")
	for k := range g.shed {
		for why := range g.shed[k] {
			if n := g.shed[k][why].Load(); n > 0 {
				send(descShed, prometheus.CounterValue, float64(n), classNames[k], shedNames[why])
			}
		}
	}
}
