package h1

import "strings"

// A Response is the head of an answer. Begin it, give Parse the bytes until it
// has all, then Bind or Alias it.
type Response struct {
	Head
	status int
	body   Length
}

// Begin makes p ready for the bytes of a new answer.
func (p *Response) Begin(l Limits) {
	p.reset(l)
	p.status, p.body = 0, 0
}

// Parse reads an answer's head from buf, which holds all that came so far. It
// returns the head's length once it is there, and 0 while it is not. toHead says
// that the request was HEAD.
func (p *Response) Parse(buf []byte, toHead bool) (int, Fault) {
	if p.line == 0 {
		s, ok, f := p.nextLine(buf, LineTooLong)
		if f != None || !ok {
			return 0, f
		}
		if f := p.statusLine(s.in(buf)); f != None {
			return 0, f
		}
	}
	done, f := p.parseFields(buf)
	if f != None || !done {
		return 0, f
	}
	return p.line, p.frame(toHead)
}

// statusLine takes "HTTP/1.1 200", and a reason after a space, which nobody reads.
func (p *Response) statusLine(b []byte) Fault {
	if len(b) < len("HTTP/1.1 200") || b[8] != ' ' {
		return BadStatusLine
	}
	var f Fault
	if p.minor, f = version(b[:8]); f != None {
		return f
	}
	code, reason := b[9:12], b[12:]
	if !all(code, isDigit) {
		return BadStatusLine
	}
	if len(reason) > 0 && (reason[0] != ' ' || !all(reason, isValue)) {
		return BadStatusLine
	}
	p.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	if p.status < 100 || p.status > 599 || p.status < 200 && p.minor == 0 {
		return BadStatus
	}
	return None
}

// frame says how long the body is. A status that has no body and announces one
// is read as having none, and its connection is not used again.
func (p *Response) frame(toHead bool) Fault {
	if f := p.framing(); f != None {
		return f
	}
	if p.minor == 0 {
		p.closes = true
	}
	bodiless := p.status < 200 || p.status == 204
	switch {
	case bodiless || p.status == 304 || toHead:
		p.body = 0
		if bodiless && (p.coded || p.hasLength && p.announced > 0) {
			p.closes = true
		}
	case p.coded:
		p.body = Chunked
	case p.hasLength:
		p.body = Length(p.announced)
	default:
		p.body, p.closes = UntilClose, true
	}
	return None
}

// Status is the status, from 100 to 599.
func (p *Response) Status() int { return p.status }

// Length is how long the body is.
func (p *Response) Length() Length { return p.body }

// Announced is the Content-Length, which an answer to HEAD and a 304 have
// without a body; false where there is none.
func (p *Response) Announced() (int64, bool) { return p.announced, p.hasLength }

// Close reports whether the connection ends with this exchange.
func (p *Response) Close() bool { return p.closes }

// Dated reports whether the answer has a Date.
func (p *Response) Dated() bool { return p.first[date] != 0 }

// eventStream reports whether the answer goes on for as long as it likes.
func (p *Response) eventStream() bool {
	value, _ := p.lookup(contentType)
	kind, _, _ := strings.Cut(value, ";")
	return is(strings.TrimRight(kind, " \t"), "text/event-stream")
}

// webSocket reports whether a 101 switches to what WebSocket of a Request asks for.
func (p *Response) webSocket() bool {
	value, ok := p.lookup(upgrade)
	return p.status == 101 && p.upgrades && ok && is(value, "websocket")
}
