package router_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/identify"
)

// A draw makes requests that try to be somebody else's, by chance.
type draw struct {
	rng       *rand.Rand
	bearer    string // acme's, and valid
	assertion string // what a router would say of tenant 2
}

// of is one of all.
func (d *draw) of(all ...string) string { return all[d.rng.IntN(len(all))] }

// blank is nothing, mostly, or white space.
func (d *draw) blank() string { return d.of("", "", "", "", "", " ", "  ", "\t", " \t ") }

// cased is s with its letters in any case.
func (d *draw) cased(s string) string {
	b := []byte(s)
	for i, c := range b {
		if lower := c | 0x20; lower >= 'a' && lower <= 'z' && d.rng.IntN(2) == 0 {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// respelled is a name in another spelling that some servers take for the same.
func (d *draw) respelled(name string) string {
	b := []byte(d.cased(name))
	for i, c := range b {
		if c == '-' && d.rng.IntN(2) == 0 {
			b[i] = '_'
		}
	}
	return string(b)
}

// name is a name of ours, as it is or in another spelling.
func (d *draw) name() string {
	name := d.of("Cell-Assertion", "Cell-Tenant", "Cell-Epoch", "Cell-Id", token.TimeLeftHeader, identify.Header, "cell-")
	if d.rng.IntN(4) == 0 {
		return name
	}
	return d.respelled(name)
}

// value is what a router would say of tenant 2, or what may be taken for it.
func (d *draw) value() string {
	return d.of(d.assertion, "2", "bolt", "acme", "", d.assertion+", "+d.assertion, "acme, bolt", "\x7f")
}

func (d *draw) padded() string { return d.blank() + d.value() + d.blank() }

func (d *draw) field() string { return d.name() + ":" + d.padded() + "\r\n" }

// listed is a list that has the name in it.
func (d *draw) listed(name string) string {
	return d.of("", "close, ", "keep-alive,", "x,\t", ",, ", "trailers, ", `"`) + name + d.of("", " ", ", x", ";q=0.5", "=1", " x", `"`)
}

// cookie is up to three cookies.
func (d *draw) cookie() string {
	var all strings.Builder
	for range 1 + d.rng.IntN(3) {
		all.WriteString(d.of("tenant=acme", "tenant=bolt", `tenant="bolt"`, "tenant\t=bolt", "tenant= bolt", d.cased("tenant")+"=bolt", "tenant", "tenant%3dbolt", "$Version=1", `x="`, "x=1", d.name()+"="+d.value()))
		all.WriteString(d.of("; ", ";", " ;\t", ", ", ""))
	}
	return all.String()
}

// saying is a field by which some servers let a client say what it asks for.
func (d *draw) saying() string {
	return d.cased(d.of("X-Forwarded-Host", "X_Forwarded_Host", "Forwarded", "X-Forwarded-Prefix", "X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Http-Host-Override"))
}

func (d *draw) said() string { return d.of(bolt, "host="+bolt, "/t/bolt/", "bolt") }

// target is one that says nothing, or the truth.
func (d *draw) target() string {
	return d.of("/v1/x", "/", "/v1/projects?tenant=bolt", "/t/acme/v1/x", "/v1/x?next=/t/bolt/")
}

// host is a host that is not acme's, or that can be read two ways.
func (d *draw) host() string {
	host := d.of(bolt, "acme."+base+"@"+bolt, bolt+"@"+acme, bolt+"#"+acme, acme+":80@"+bolt, bolt+".", acme+", "+bolt, acme+" "+bolt, acme+"\t"+bolt,
		"[::1%25bolt]", "acme%2e"+base, bolt+"%00"+acme, "b\xc3\xb6lt."+base, acme+"\x00", "xn--blt-sna."+base, "bolt", "", "bolt."+acme, acme+":bolt", bolt+"/"+acme, bolt+"\\"+acme)
	if d.rng.IntN(2) == 0 {
		host = d.cased(host)
	}
	return host + d.of("", "", "", ":80", ":443", ":", ".", ":0443", ":bolt")
}

// path is one that names tenant 2, or that can be read two ways.
func (d *draw) path() string {
	path := d.of("/t/bolt", "/t/bolt/v1/x", "/t/acme/../bolt/v1/x", "/t/acme/%2e%2e/bolt/v1/x", "//t/bolt/x", "/%74/bolt/x", "/t%2fbolt/x", "/t/%62olt/x", "/t\\bolt\\x",
		"/t/acme%00bolt/x", "/t/acme%2f..%2fbolt/x", "/t/acme/..%2fbolt/x", "/./t/bolt/x", "/t//bolt/x", "/t/bolt;acme/x", "/t/acme\t/../bolt", "/t/acme/v1/x",
		"/v1/..;/t/bolt/x", "/v1/%252e%252e/t/bolt/x", "/T/bolt/x", "/t/Bolt/x", "/x/../t/bolt")
	if d.rng.IntN(2) == 0 {
		i := d.rng.IntN(len(path))
		path = path[:i] + "%" + d.of("", "25") + d.cased(fmt.Sprintf("%02x", path[i])) + path[i+1:]
	}
	return path + d.of("", "/", "?tenant=acme", "?/t/bolt/", ";/t/bolt/", "%00", "#/t/acme/", "%0d%0a"+d.name()+":%20"+d.of("2", "bolt"))
}

// to is a request over HTTP/1.1 with acme's token.
func (d *draw) to(target, host, fields string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: " + d.bearer + "\r\n" + fields + "\r\n"
}

func (d *draw) get(fields string) string { return d.to(d.target(), acme, fields) }

func (d *draw) post(fields, body string) string {
	return "POST " + d.target() + " HTTP/1.1\r\nHost: " + acme + "\r\nAuthorization: " + d.bearer + "\r\n" + fields + "\r\n" + body
}

func (d *draw) chunked(fields, trailer string) string {
	return d.post("Transfer-Encoding: chunked\r\n"+fields, "3\r\nabc\r\n0\r\n"+trailer+"\r\n")
}

// spoofs are the places where a name, a host or a path can say more than it should.
var spoofs = []func(d *draw) string{
	func(d *draw) string { return d.get(d.field()) },
	func(d *draw) string { return d.get(d.field() + d.field()) },
	func(d *draw) string {
		n := d.name()
		return d.get(n + ":" + d.padded() + "\r\n" + d.respelled(n) + ": " + d.of("x", "", "acme") + "\r\n")
	},
	func(d *draw) string { return d.get(d.field() + "X-Tenant:" + d.blank() + "bolt\r\n") },
	func(d *draw) string {
		return d.get(d.respelled(identify.Header) + ":" + d.blank() + d.of("acme", "bolt") + "\r\n" + d.of(identify.Header, d.respelled(identify.Header)) + ": bolt\r\n")
	},
	func(d *draw) string {
		return d.get(d.name() + d.of(" ", "\t", " \t", "\x00", "\x0b", "\x7f", "\xa0", "(", ",", ";") + ":" + d.padded() + "\r\n")
	},
	func(d *draw) string {
		return d.get(d.of(" ", "\t", "\x00", ":", `"`, "\xef\xbb\xbf", "X-", "-", "_", ".") + d.field())
	},
	func(d *draw) string {
		return d.get("X: y" + d.of("\n", "\r", "\r\r\n", "\x00\r\n", "\r\n ", "\r\n\t", "\n\t") + d.field())
	},
	func(d *draw) string {
		return d.get(d.respelled(d.of("Connection", "Proxy-Connection", "Keep-Alive", "TE", "Trailer")) + ":" + d.blank() + d.listed(d.name()) + "\r\n" + d.of("", d.field()))
	},
	func(d *draw) string {
		n := d.name()
		return d.get("Connection: " + d.listed(n) + "\r\n" + n + ":" + d.padded() + "\r\n")
	},
	func(d *draw) string {
		return d.get("Connection: " + d.of("keep-alive", "close", "x") + "\r\n" + d.cased("Connection") + ":" + d.blank() + d.listed(d.name()) + "\r\n")
	},
	func(d *draw) string {
		n := d.name()
		return d.chunked("Trailer:"+d.blank()+d.listed(n)+"\r\n", n+":"+d.padded()+"\r\n")
	},
	func(d *draw) string { return d.chunked("", d.field()) },
	func(d *draw) string { return d.chunked("Trailer: X-Sum\r\n", d.of("", "X-Sum: 1\r\n")+d.field()) },
	func(d *draw) string { return d.chunked("", "X-Tenant: bolt\r\nHost: "+bolt+"\r\n"+d.field()) },
	func(d *draw) string {
		return d.post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET / HTTP/1.1\r\nHost: "+acme+"\r\n"+d.field()+"\r\n")
	},
	func(d *draw) string { return d.post("Content-Length: 0\r\nContent-Length: 9\r\n", d.field()+"\r\n") },
	func(d *draw) string {
		return d.get("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n" + d.field())
	},
	func(d *draw) string {
		return d.get(d.of(":authority", ":path", ":") + ": " + d.said() + "\r\n" + d.field())
	},
	func(d *draw) string {
		return d.get(d.saying() + ": " + d.said() + "\r\n" + d.saying() + ": " + d.said() + "\r\n")
	},
	func(d *draw) string { return d.get(d.saying() + ": " + d.said() + "\r\n" + d.field()) },
	func(d *draw) string { return d.get("Cookie:" + d.blank() + d.cookie() + "\r\n") },
	func(d *draw) string { return d.get("Cookie: " + d.cookie() + "\r\nCookie: " + d.cookie() + "\r\n") },
	func(d *draw) string { return d.to(d.target(), d.host(), "") },
	func(d *draw) string { return d.to(d.target(), d.host(), d.field()) },
	func(d *draw) string { return d.to(d.cased(d.of("http", "https"))+"://"+d.host()+d.target(), acme, "") },
	func(d *draw) string { return d.get(d.cased("Host") + ":" + d.blank() + d.host() + "\r\n") },
	func(d *draw) string { return d.to(d.path(), acme, "") },
	func(d *draw) string { return d.to(d.path(), acme, "X-Tenant: acme\r\n") },
}
