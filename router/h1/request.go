package h1

import "bytes"

// A Request is the head of a request. Begin it, give Parse the bytes until it
// has all, then Bind or Alias it.
type Request struct {
	Head
	method, target span // of the text; target in origin form, or "*"
	authority      span // of an absolute target
	host           span
	slash          bool // the target is "/" and the text has no slash for it
	length         Length
	protocol       bool // a WebSocket is asked for
}

// Begin makes r ready for the bytes of a new request.
func (r *Request) Begin(l Limits) {
	r.reset(l)
	r.method, r.target, r.authority, r.host = span{}, span{}, span{}, span{}
	r.slash, r.length, r.protocol = false, 0, false
}

// Parse reads a request's head from buf, which holds all that came so far. It
// returns the head's length once it is there, and 0 while it is not.
func (r *Request) Parse(buf []byte) (int, Fault) {
	if r.line == 0 {
		s, ok, f := r.nextLine(buf, TargetTooLong)
		if f != None || !ok {
			return 0, f
		}
		if f := r.requestLine(buf, s); f != None {
			r.target = span{}
			return 0, f
		}
	}
	done, f := r.parseFields(buf)
	if f != None || !done {
		return 0, f
	}
	return r.line, r.check(buf)
}

func (r *Request) requestLine(buf []byte, s span) Fault {
	line := s.in(buf)
	one := bytes.IndexByte(line, ' ')
	if one < 0 {
		return BadRequestLine
	}
	two := bytes.IndexByte(line[one+1:], ' ')
	if two < 0 {
		return BadRequestLine
	}
	two += one + 1
	r.method = span{s.from, s.from + uint32(one)}                   //nolint:gosec // heads are far below 4 GB
	r.target = span{s.from + uint32(one) + 1, s.from + uint32(two)} //nolint:gosec // as above
	var f Fault
	if r.minor, f = version(line[two+1:]); f != None {
		return f
	}
	switch method := r.method.in(buf); {
	case len(method) > maxMethod || !all(method, isToken):
		return BadMethod
	case string(method) == "CONNECT":
		return MethodRefused
	}
	return r.parseTarget(buf)
}

// version is the minor version of HTTP/1.
func version(b []byte) (int8, Fault) {
	switch {
	case string(b) == "HTTP/1.1":
		return 1, None
	case string(b) == "HTTP/1.0":
		return 0, None
	case len(b) == 8 && string(b[:5]) == "HTTP/" && b[6] == '.' && class[b[5]]&class[b[7]]&isDigit != 0:
		return 0, VersionRefused
	}
	return 0, BadVersion
}

// parseTarget takes "/path?query", "http://host/path?query", and "*" of OPTIONS.
func (r *Request) parseTarget(buf []byte) Fault {
	t := r.target.in(buf)
	switch {
	case !all(t, isTarget):
		return BadTarget
	case string(t) == "*":
		if string(r.method.in(buf)) != "OPTIONS" {
			return BadTarget
		}
		return None
	case t[0] == '/':
		return checkPath(t)
	}
	scheme := bytes.Index(t, []byte("://"))
	if scheme < 0 || !is(t[:scheme], "http") && !is(t[:scheme], "https") {
		return BadTarget
	}
	from := r.target.from + uint32(scheme) + 3 //nolint:gosec // heads are far below 4 GB
	rest := buf[from:r.target.to]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	r.authority = span{from, from + uint32(end)} //nolint:gosec // as above
	r.target.from = r.authority.to
	r.slash = end == len(rest) || rest[end] == '?'
	return checkPath(rest[end:])
}

// checkPath refuses a "%" in the path that begins no escape. A query is nobody's
// business but the cell's.
func checkPath(t []byte) Fault {
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		t = t[:q]
	}
	for i := bytes.IndexByte(t, '%'); i >= 0; i = bytes.IndexByte(t, '%') {
		if i+2 >= len(t) || class[t[i+1]]&class[t[i+2]]&isHex == 0 {
			return BadTarget
		}
		t = t[i+3:]
	}
	return None
}

// check is what can be said once the whole head is there.
func (r *Request) check(buf []byte) Fault {
	if f := r.checkHost(buf); f != None {
		return f
	}
	if f := r.framing(); f != None {
		return f
	}
	r.length = 0
	switch {
	case r.coded:
		r.length = Chunked
	case r.hasLength:
		r.length = Length(r.announced)
	}
	if r.minor == 0 {
		r.closes = true
	}
	return r.checkUpgrade(buf)
}

func (r *Request) checkHost(buf []byte) Fault {
	if r.first[host] == 0 {
		return NoHost
	}
	r.host = r.fields[r.first[host]-1].value
	value := r.host.in(buf)
	if !validHost(value) {
		return BadHost
	}
	if r.authority.from != 0 && !sameFold(r.authority.in(buf), value) {
		return HostMismatch
	}
	return None
}

// validHost takes a name or an address in brackets, and an optional port.
func validHost(b []byte) bool {
	name := b
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		for _, c := range b[1:end] {
			if class[c]&isHex == 0 && c != ':' && c != '.' {
				return false
			}
		}
		return end > 1 && validPort(b[end+1:])
	}
	if i := bytes.IndexByte(b, ':'); i >= 0 {
		if !validPort(b[i:]) {
			return false
		}
		name = b[:i]
	}
	return all(name, isName)
}

func validPort(b []byte) bool {
	return len(b) == 0 || b[0] == ':' && len(b) <= 6 && (len(b) == 1 || all(b[1:], isDigit))
}

// checkUpgrade notes whether a WebSocket is asked for. Any other protocol is not
// offered further, as a server may choose; h2c is the one that attacks use.
func (r *Request) checkUpgrade(buf []byte) Fault {
	if r.first[upgrade] == 0 || !r.upgrades || r.minor == 0 {
		return None
	}
	value := r.fields[r.first[upgrade]-1].value.in(buf)
	if !is(value, "websocket") || string(r.method.in(buf)) != "GET" {
		return None
	}
	if r.length != 0 {
		return BadUpgrade // where the body ends and the tunnel begins is too easily disputed
	}
	r.protocol = true
	return None
}

// Method is the method.
func (r *Request) Method() string { return r.method.of(r.text) }

// Target is the request target in origin form, or "*".
func (r *Request) Target() string {
	t := r.target.of(r.text)
	if r.slash {
		t = "/" + t
	}
	return t
}

// Host is the host, with its port where it has one.
func (r *Request) Host() string { return r.host.of(r.text) }

// Minor is 1 for HTTP/1.1 and 0 for HTTP/1.0.
func (r *Request) Minor() int { return int(r.minor) }

// Length is how long the body is; 0 where there is none.
func (r *Request) Length() Length { return r.length }

// HasLength reports whether there was a Content-Length.
func (r *Request) HasLength() bool { return r.hasLength }

// Close reports whether the connection ends with this exchange.
func (r *Request) Close() bool { return r.closes }

// Continue reports whether the client waits for 100 before it sends the body.
func (r *Request) Continue() bool { return r.first[expect] != 0 && r.minor == 1 && r.length != 0 }

// WebSocket reports whether the client asks for a tunnel.
func (r *Request) WebSocket() bool { return r.protocol }

// Trailers reports whether the client takes trailers.
func (r *Request) Trailers() bool { return r.trailers }
