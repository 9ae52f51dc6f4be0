package router_test

import "strings"

// A framed is a request over HTTP/2: names and values by turns, as head takes them.
type framed struct {
	head    []string
	body    string
	trailer []string // nil: none
}

// small is a name of ours as HTTP/2 has names, mostly.
func (d *draw) small() string {
	if d.rng.IntN(8) == 0 {
		return d.name()
	}
	return strings.ToLower(d.name())
}

// over is a request over HTTP/2 with acme's token.
func (d *draw) over(authority, path string, more ...string) framed {
	return framed{head: append([]string{":method", "GET", ":scheme", "https", ":authority", authority, ":path", path, "authorization", d.bearer}, more...)}
}

func (d *draw) with(more ...string) framed { return d.over(acme, d.target(), more...) }

// before is a request that has more in front of its usual fields.
func (d *draw) before(more ...string) framed { return framed{head: append(more, d.with().head...)} }

// sent is a request with a body, and fields behind it.
func (d *draw) sent(body string, trailer []string, more ...string) framed {
	v := d.with(more...)
	v.head[1], v.body, v.trailer = "POST", body, trailer
	return v
}

// pseudo is a field that must be there once and first, or never.
func (d *draw) pseudo() (name, value string) {
	switch name = d.of(":authority", ":path", ":method", ":scheme", ":protocol", ":status", ":host", ":Authority", ":", ":"+d.small()); name {
	case ":authority":
		return name, d.of(acme, d.host())
	case ":path":
		return name, d.of("/v1/x", d.path())
	}
	return name, d.of("GET", "https", "200", d.value(), d.host())
}

// framedSpoofs are the places of a request over HTTP/2 where it can say more than it should.
var framedSpoofs = []func(d *draw) framed{
	func(d *draw) framed { return d.with(d.small(), d.padded()) },
	func(d *draw) framed { return d.before(d.small(), d.padded()) },
	func(d *draw) framed {
		n := d.small()
		return d.with(n, d.padded(), strings.ToLower(d.respelled(n)), d.of("x", "", "acme"))
	},
	func(d *draw) framed { return d.with(d.small(), d.value(), d.small(), d.value()) },
	func(d *draw) framed { return d.with(d.small(), d.padded(), "x-tenant", d.of("acme", "bolt")) },
	func(d *draw) framed {
		return d.with("x-tenant", d.of("acme", "bolt", "ACME"), d.of("x-tenant", "x-tenant", "x_tenant", d.cased("x-tenant")), d.of("acme", "bolt")+d.blank())
	},
	func(d *draw) framed {
		return d.with(d.of("", " ", ":", "\x00", "x-", "_", ".", "\r\n", "x: y\r\n", "x:")+d.small()+d.of("", " ", "\t", "\x00", ":", ": x\r\ny", "(", "\xa0"), d.value())
	},
	func(d *draw) framed {
		return d.with("x", "y"+d.of("\r\n", "\n", "\r", "\x00", "\r\n ", "\r\n\r\n")+d.small()+": "+d.padded())
	},
	func(d *draw) framed {
		return d.with(d.of("connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding", "http2-settings"), d.listed(d.small()))
	},
	func(d *draw) framed {
		return d.with(d.of("proxy_connection", "keep_alive", "transfer_encoding", "content_length", "x-connection", "te"), d.of("trailers", "chunked", "0", d.listed(d.small())))
	},
	func(d *draw) framed {
		n := d.small()
		return d.with(d.of("connection", "te", "trailer"), d.listed(n), n, d.value())
	},
	func(d *draw) framed { return d.with("cookie", d.cookie()) },
	func(d *draw) framed { return d.with("cookie", d.cookie(), "cookie", d.cookie()) },
	func(d *draw) framed {
		return d.with(strings.ToLower(d.saying()), d.said(), strings.ToLower(d.saying()), d.said())
	},
	func(d *draw) framed { return d.over(d.blank()+d.host()+d.blank(), d.target()) },
	func(d *draw) framed { return d.over(acme, d.target(), d.of("host", "Host"), d.host()) },
	func(d *draw) framed { return d.over(d.host(), d.target(), "host", d.of(acme, d.host())) },
	func(d *draw) framed { // no authority
		return framed{head: []string{":method", "GET", ":scheme", "https", ":path", d.target(), "host", d.of(acme, d.host()), "authorization", d.bearer, "host", d.host()}}
	},
	func(d *draw) framed { return d.before(":authority", d.of(acme, d.host())) },
	func(d *draw) framed { return d.before(d.pseudo()) },
	func(d *draw) framed { return d.with(d.pseudo()) },
	func(d *draw) framed { return d.over(acme, d.path()) },
	func(d *draw) framed { return d.over(acme, d.path(), "x-tenant", "acme") },
	func(d *draw) framed {
		return d.over(acme, d.cased(d.of("http", "https"))+"://"+d.of(acme, d.host())+d.target())
	},
	func(d *draw) framed {
		return d.over(acme, d.target()+d.of(" HTTP/1.1\r\n", "\r\n", "\n", " ", "\t", "\x00", "\r\n\r\n")+d.small()+": "+d.value())
	},
	func(d *draw) framed {
		return d.over(acme, d.of("", "*", "v1/x", "?x=/t/bolt/", bolt+":443", "//"+d.host()+"/", "/\\"+bolt, "/t/bolt"), d.small(), d.value())
	},
	func(d *draw) framed {
		v := d.with(d.small(), d.value())
		v.head[1+2*d.rng.IntN(2)] = d.of("GET /t/bolt/ HTTP/1.1\r\nHost: "+bolt+"\r\nX:", "GET ", "CONNECT", "TRACE", "get", "PRI", "http", "HTTPS", "https://"+bolt+"/?", "")
		return v
	},
	func(d *draw) framed {
		return framed{head: []string{":method", "CONNECT", ":authority", d.host(), "authorization", d.bearer, d.small(), d.value()}}
	},
	func(d *draw) framed { return d.sent("abc", []string{d.small(), d.padded()}) },
	func(d *draw) framed {
		n := d.small()
		return d.sent("abc", []string{n, d.padded()}, "trailer", d.listed(n))
	},
	func(d *draw) framed {
		return d.sent("abc", []string{"x-sum", "1", d.small(), d.padded()}, "trailer", "x-sum")
	},
	func(d *draw) framed {
		n := d.of("host", "cookie", "authorization", "content-length", "connection", "x-forwarded-host")
		return d.sent("abc", []string{n, d.of(d.host(), d.cookie(), d.value())}, "trailer", d.of("x", n))
	},
	func(d *draw) framed {
		n, v := d.pseudo()
		return d.sent("abc", []string{n, v})
	},
	func(d *draw) framed {
		return d.sent("GET /t/bolt/ HTTP/1.1\r\nHost: "+bolt+"\r\n"+d.field()+"\r\n", nil, "content-length", d.of("0", "3", "9999", "+3", "0x3", "3, 3", ""), d.of("x", "content-length", "content_length", "transfer-encoding"), d.of("0", "3", "chunked"))
	},
}
