package peers

import (
	"context"
	"fmt"
)

// What follows is measured at a fixed rate that origin and load, on one core, can
// carry: kept as busy as they can be, they fill it before a fast proxy fills its own.

// handshakesFigure is of TLS alone: no request is sent.
func handshakesFigure() *measure {
	return &measure{
		Figure: describe("P10-handshakes", "TLS handshakes in one second of processor time",
			"connections at 1,000 a second, each given up when its handshake is done: TLS 1.3, ECDSA P-256, X25519; with the whole handshake, and resumed by a ticket."),
		unit: "1/s", floor: true, ratios: []ratio{
			{"full", "nginx", ">= 0.7"},
			{"resumed", "nginx", ">= 0.8"},
			{"full", "haproxy", ""},
			{"resumed", "haproxy", ""},
			{"full", "caddy", ""},
			{"resumed", "caddy", ""},
			{"full", floorName, ""},
			{"resumed", floorName, ""},
		},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			if c.tls == "" {
				return nil, notApplicable{"no TLS"}
			}
			got := map[string]float64{}
			for kind, resumed := range map[string]bool{"full": false, "resumed": true} {
				o, err := l.load(ctx, c, "handshake", loadSpec{Addr: c.tls, Rate: max(1, l.o.Rate/10), Conns: l.o.Conns, For: l.o.For, Resumed: resumed})
				if err == nil && o.Failed > 0 {
					err = fmt.Errorf("%d of %d %s handshakes failed", o.Failed, o.Failed+o.Done, kind)
				}
				if err != nil {
					return nil, err
				}
				got[kind] = 1e6 / max(o.perRequest(), 1e-9)
			}
			return got, nil
		},
	}
}

func tlsFigure() *measure {
	return &measure{
		Figure: describe("P11-tls", "processor time of one request over TLS",
			"h2load over HTTP/1.1 at half of P1's rate, 64 keep-alive connections, TLS 1.3 with ECDSA P-256, their handshakes included."),
		unit: "us", floor: true, ratios: []ratio{{"", "nginx", "<= 1.3"}, {"", "haproxy", ""}, {"", "reverseproxy", ""}, {"", floorName, ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			o, err := l.h2load(ctx, c, "http/1.1", l.o.Conns, "--h1")
			return map[string]float64{"": o.perRequest()}, err
		},
	}
}

func h2Figure() *measure {
	return &measure{
		Figure: describe("P12-h2", "processor time of one request over HTTP/2",
			"h2load at half of P1's rate, 4 connections of 25 streams each, TLS, answers of 1 KiB. It sends what has come due every 10 ms."),
		unit: "us", floor: true, ratios: []ratio{{"", "nginx", "<= 1"}, {"", "caddy", "<= 0.6"}, {"", "haproxy", ""}, {"", floorName, ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			o, err := l.h2load(ctx, c, "h2", 4, "-m25")
			return map[string]float64{"": o.perRequest()}, err
		},
	}
}

func connectionsFigure() *measure {
	return &measure{
		Figure: describe("P13-connections", "requests in one second of processor time where each has a connection of its own",
			"our open-loop generator at half of P1's rate with Connection: close, 64 connections at a time, answers of 1 KiB."),
		unit: "1/s", ratios: []ratio{{"", "nginx", ">= 0.8"}, {"", "haproxy", ""}, {"", "reverseproxy", ""}},
		run: func(ctx context.Context, l *lab, c *contender) (map[string]float64, error) {
			rate, err := l.halfRate(ctx, c)
			if err != nil {
				return nil, err
			}
			o, err := l.offer(ctx, c, loadSpec{Path: kilobyte, Rate: rate, Close: true})
			return map[string]float64{"": 1e6 / max(o.perRequest(), 1e-9)}, err
		},
	}
}
