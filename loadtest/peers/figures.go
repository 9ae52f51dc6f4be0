package peers

import (
	"context"
	"errors"
	"time"

	"github.com/cellway/cellway/loadtest/figure"
)

// measures is every figure of the pinned phase, by its number in the design.
func measures() []*measure {
	return []*measure{
		rateFigure(), cpuFigure(), latencyFigure(), syscallsFigure(), allocationsFigure(), bodiesFigure(), chunkedFigure(),
		idleFigure(), idleTLSFigure(), handshakesFigure(), tlsFigure(), h2Figure(), connectionsFigure(), partsFigure(),
	}
}

// unpinned are the figures that are measured again with nothing pinned, without goals.
func unpinned() []*measure {
	ms := []*measure{rateFigure(), cpuFigure(), latencyFigure()}
	for _, m := range ms {
		m.Name += "-unpinned"
		m.Title += ", nothing pinned"
		m.goals = nil
		for i := range m.ratios {
			m.ratios[i].goal = ""
		}
	}
	return ms
}

func describe(name, title, how string) figure.Figure {
	return figure.Figure{Name: name, Title: title, How: how}
}

const kilobyte = "/b/1024"

// perCore is the value that a run gives also where load and origin had no room left.
const perCore = "a second of its processor time"

func rateFigure() *measure {
	m := &measure{
		Figure: describe("P2-rate", "requests a second that one core carries",
			"wrk, 1 thread, 64 keep-alive connections, answers of 1 KiB, one tenant's name. Where load and origin, on one core, end before the proxy does, "+
				"only what it does in a second of its processor time counts: while it is pinned it has one core, so this is what the core carries."),
		unit: "1/s", floor: true, ratios: []ratio{
			{perCore, "nginx", ">= 1.25"},
			{perCore, "haproxy", ""},
			{perCore, "reverseproxy", ""},
			{perCore, floorName, ""},
			{"", "nginx", ""},
			{"", "haproxy", ""},
			{"", "reverseproxy", ""},
			{"", floorName, ""},
		},
	}
	m.run = func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
		r, err := l.wrk(ctx, c, "http://"+c.plain+kilobyte)
		got := map[string]float64{perCore: 1e6 / max(r.perRequest(), 1e-9)}
		if b, refused := errors.AsType[bottleneck](err); refused {
			m.refuse(c.name, b.who)
			return got, nil
		}
		if err != nil {
			return nil, err
		}
		l.most[c.name], got[""] = r.perSecond(), r.perSecond()
		return got, nil
	}
	return m
}

// carries is how many requests a second a contender can, measured if it was not.
// Where load or origin are what ends first, what they carry is a lower bound.
func (l *lab) carries(ctx context.Context, c *contender) (float64, error) {
	if l.most[c.name] == 0 {
		o, err := l.offer(ctx, c, loadSpec{Path: kilobyte, For: l.o.For / 2})
		if err != nil && !isBottleneck(err) {
			return 0, err
		}
		l.most[c.name] = max(100, o.perSecond())
	}
	return l.most[c.name], nil
}

func cpuFigure() *measure {
	return &measure{
		Figure: describe("P1-cpu", "processor time of the proxy for one request",
			"our open-loop generator at 10,000 requests a second, or at 0.7 of what the proxy carries where that is less; 64 connections, "+
				"100,000 tenants in turn, answers of 1 KiB; the scheduler's account of the proxy's threads."),
		unit: "us", floor: true, ratios: []ratio{
			{"", "nginx", "<= 0.75"}, {"", "haproxy", "<= 0.75"}, {"", "reverseproxy", "<= 0.3"}, {"", "caddy", ""}, {"", "traefik", ""}, {"", floorName, ""},
		},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			o, err := l.atRate(ctx, c, loadSpec{Path: kilobyte})
			return map[string]float64{"": o.perRequest()}, err
		},
	}
}

// atRate offers the usual rate, or what the contender carries easily.
func (l *lab) atRate(ctx context.Context, c *contender, spec loadSpec) (offered, error) {
	rate, err := l.usualRate(ctx, c)
	if err != nil {
		return offered{}, err
	}
	spec.Rate = rate
	return l.offer(ctx, c, spec)
}

func (l *lab) usualRate(ctx context.Context, c *contender) (int, error) {
	most, err := l.carries(ctx, c)
	return max(1, min(l.o.Rate, int(0.7*most))), err
}

// halfRate is where a request costs load and proxy about twice as much.
func (l *lab) halfRate(ctx context.Context, c *contender) (int, error) {
	rate, err := l.usualRate(ctx, c)
	return max(1, rate/2), err
}

func latencyFigure() *measure {
	var direct loadResult
	rate := 0
	return &measure{
		Figure: describe("P3-latency", "time that the proxy adds to a request at half load",
			"open loop at half of what nginx carries (a half or a quarter of that where load and origin, on one core, have no room for it), or half of what "+
				"the proxy itself does where that is less; each request counts from when it was to be sent; the same quantile of the same load on the origin itself is taken off."),
		unit: "us", floor: true, goals: map[string]string{"p50": "<= 30"},
		ratios: []ratio{{"p99", "nginx", "<= 1"}, {"p99.9", "nginx", "<= 1.2"}, {"p99", "haproxy", ""}, {"p99", "reverseproxy", ""}},
		first: func(ctx context.Context, l *lab) error {
			reference := l.byName("nginx")
			if reference == nil {
				reference = l.contenders[0]
			}
			most, err := l.carries(ctx, reference)
			if err != nil {
				return err
			}
			rate = max(1, int(most/2))
			for try := 0; ; try++ {
				o, err := l.offer(ctx, &contender{name: "direct", plain: l.originAddr, process: l.origin}, loadSpec{Path: kilobyte, Rate: rate})
				direct = o.loadResult
				if try == 2 || !isBottleneck(err) {
					return err
				}
				rate = max(1, rate/2)
			}
		},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			most, err := l.carries(ctx, c)
			if err != nil {
				return nil, err
			}
			o, err := l.offer(ctx, c, loadSpec{Path: kilobyte, Rate: max(1, min(rate, int(most/2)))})
			return map[string]float64{"p50": us(o.P50 - direct.P50), "p99": us(o.P99 - direct.P99), "p99.9": us(o.P999 - direct.P999)}, err
		},
	}
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }

const megabyte = 1 << 20

func bodiesFigure() *measure {
	m := &measure{
		Figure: describe("P6-bodies", "gigabytes that a proxy relays in one second of processor time",
			"bodies of 1 MiB down and up on 4 connections at 60 a second, of 64 MiB down one after the other."),
		unit: "GB/s", ratios: []ratio{{"down 1 MiB", "haproxy", ">= 0.9"}, {"up 1 MiB", "haproxy", ">= 0.9"}, {"down 64 MiB", "haproxy", ">= 0.9"}, {"down 1 MiB", "nginx", ""}, {"up 1 MiB", "nginx", ""}},
	}
	m.run = func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
		got := map[string]float64{}
		for _, x := range []struct {
			kind  string
			bytes int
			spec  loadSpec
		}{
			{"down 1 MiB", megabyte, loadSpec{Path: "/b/1048576", Rate: 60, Conns: 4}},
			{"up 1 MiB", megabyte, loadSpec{Method: "POST", Path: "/b/2", Body: megabyte, Rate: 60, Conns: 4}},
			{"down 64 MiB", 64 * megabyte, loadSpec{Path: "/b/67108864", Rate: 2, Conns: 1}},
		} {
			o, err := l.offer(ctx, c, x.spec)
			if err != nil {
				return nil, err
			}
			if o.cost > 0 {
				got[x.kind] = float64(o.Done) * float64(x.bytes) / 1e9 / o.cost.Seconds()
			}
		}
		return got, nil
	}
	return m
}

func chunkedFigure() *measure {
	return &measure{
		Figure: describe("P7-chunked", "chunked answers of 16 KiB in one second of processor time", "as P1, with chunks of 4 KiB, at 0.4 of its rate."),
		unit:   "1/s", ratios: []ratio{{"", "nginx", ">= 0.9"}, {"", "haproxy", ""}, {"", "reverseproxy", ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			most, err := l.carries(ctx, c)
			if err != nil {
				return nil, err
			}
			o, err := l.offer(ctx, c, loadSpec{Path: "/c/16384", Rate: max(1, int(0.4*min(float64(l.o.Rate), most)))})
			return map[string]float64{"": 1e6 / max(o.perRequest(), 1e-9)}, err
		},
	}
}
