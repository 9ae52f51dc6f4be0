package h1

import (
	"bytes"
	"unsafe"
)

// A span is a part of a head's text.
type span struct{ from, to uint32 }

func (s span) of(text string) string { return text[s.from:s.to] }
func (s span) in(buf []byte) []byte  { return buf[s.from:s.to] }

type field struct {
	name, value span
	known       known
	hop         bool // not passed on
}

// A Head is the fields of a request or an answer. It refers to a text that it is
// given by Bind or Alias once it is parsed.
type Head struct {
	limits Limits
	text   string
	fields [MaxFields]field
	count  int
	named  [maxNamed]span // what Connection names beyond its own options
	names  int

	line int // where the line under way begins
	seen int // how far it was searched for its end

	minor     int8 // of the version: 0 or 1
	closes    bool // the sender closes after this message
	keep      bool // Connection has keep-alive
	upgrades  bool // Connection has upgrade
	hasLength bool
	announced int64                // the Content-Length
	coded     bool                 // there is a Transfer-Encoding, and it is chunked
	trailers  bool                 // TE has trailers
	first     [setCookie + 1]uint8 // index+1 of the first field of a known name
}

func (h *Head) reset(l Limits) {
	h.limits = l.orDefaults()
	h.text, h.count, h.names, h.line, h.seen = "", 0, 0, 0, 0
	h.minor, h.closes, h.keep, h.upgrades, h.hasLength, h.announced, h.coded, h.trailers = 0, false, false, false, false, 0, false, false
	h.first = [setCookie + 1]uint8{}
}

// Bind gives the head its text: the bytes that were parsed. It stays valid as
// long as the string does, which is for ever.
func (h *Head) Bind(text string) { h.text = text }

// Alias gives the head its text without a copy. Every string that the head then
// gives out is valid only until buf is written to.
func (h *Head) Alias(buf []byte) { h.text = unsafe.String(unsafe.SliceData(buf), len(buf)) }

// Len is the number of fields.
func (h *Head) Len() int { return h.count }

// Name is the name of field i, as it was sent.
func (h *Head) Name(i int) string { return h.fields[i].name.of(h.text) }

// Value is the value of field i.
func (h *Head) Value(i int) string { return h.fields[i].value.of(h.text) }

// PassedOn reports whether field i is for the next one that reads the message;
// others are of one connection only or framing.
func (h *Head) PassedOn(i int) bool { return !h.fields[i].hop }

// lookup is the value of the first field of a known name.
func (h *Head) lookup(k known) (string, bool) {
	if h.first[k] == 0 {
		return "", false
	}
	return h.Value(int(h.first[k]) - 1), true
}

// nextLine is the next line without its CRLF. Where buf does not hold all of it
// ok is false. over is the fault of a line that is too long.
func (h *Head) nextLine(buf []byte, over Fault) (s span, ok bool, f Fault) {
	most := h.line + h.limits.Line
	if most > h.limits.Head {
		most, over = h.limits.Head, HeadTooLarge
	}
	upto := min(len(buf), most)
	i := bytes.IndexByte(buf[h.seen:upto], '\n')
	if i < 0 {
		h.seen = upto
		if upto == most {
			return s, false, over
		}
		return s, false, None
	}
	end := h.seen + i
	if end == h.line || buf[end-1] != '\r' {
		return s, false, BareLF
	}
	s = span{uint32(h.line), uint32(end - 1)} //nolint:gosec // heads are far below 4 GB
	h.line, h.seen = end+1, end+1
	return s, true, None
}

// parseFields takes lines until the empty one.
func (h *Head) parseFields(buf []byte) (done bool, f Fault) {
	for {
		s, ok, f := h.nextLine(buf, LineTooLong)
		if f != None || !ok {
			return false, f
		}
		if s.from == s.to {
			return true, h.options(buf)
		}
		if f := h.parseField(buf, s); f != None {
			return false, f
		}
	}
}

func (h *Head) parseField(buf []byte, s span) Fault {
	if h.count == h.limits.Fields {
		return TooManyFields
	}
	name, value, f := splitField(buf, s)
	if f != None {
		return f
	}
	k, twin := classify(name.in(buf))
	if twin {
		return TwinName
	}
	h.fields[h.count] = field{name, value, k, k.hop()}
	h.count++
	if k == other {
		return None
	}
	again := h.first[k] != 0
	if !again {
		h.first[k] = uint8(h.count) //nolint:gosec // at most MaxFields
	}
	return h.note(k, buf, value, again)
}

// splitField checks one field line and says where its name and value are.
func splitField(buf []byte, s span) (name, value span, f Fault) {
	line := s.in(buf)
	if line[0] == ' ' || line[0] == '\t' {
		return name, value, Folded
	}
	colon := bytes.IndexByte(line, ':')
	switch {
	case colon < 0:
		return name, value, BadField
	case !all(line[:colon], isToken):
		return name, value, BadName
	}
	name = span{s.from, s.from + uint32(colon)} //nolint:gosec // heads are far below 4 GB
	value = trim(buf, int(name.to)+1, int(s.to))
	if value.from < value.to && !all(value.in(buf), isValue) {
		return name, value, BadValue
	}
	return name, value, None
}

// note takes in a field that says how the message is framed.
func (h *Head) note(k known, buf []byte, s span, again bool) Fault {
	value := s.in(buf)
	switch k {
	case host:
		if again {
			return TwoHosts
		}
	case contentLength:
		if again {
			return TwoLengths
		}
		n, ok := parseLength(value)
		if !ok {
			return BadLength
		}
		h.announced, h.hasLength = n, true
	case transferEncoding:
		if again || !is(value, "chunked") {
			return BadCoding
		}
		h.coded = true
	case expect:
		if again || !is(value, "100-continue") {
			return BadExpect
		}
	case upgrade:
		if again {
			return BadUpgrade
		}
	case te:
		for rest, more := s, true; more; {
			s, rest, more = element(buf, rest)
			h.trailers = h.trailers || is(s.in(buf), "trailers")
		}
	}
	return None
}

// parseLength reads digits and nothing else.
func parseLength(b []byte) (int64, bool) {
	if len(b) > maxDigits || !all(b, isDigit) {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n, n <= 1<<53
}

// options reads the Connection fields, and marks the fields that they name.
func (h *Head) options(buf []byte) Fault {
	if h.first[connection] == 0 {
		return None
	}
	for i := range h.count {
		if h.fields[i].known != connection {
			continue
		}
		for rest, more := h.fields[i].value, true; more; {
			var e span
			e, rest, more = element(buf, rest)
			if f := h.option(buf, e); f != None {
				return f
			}
		}
	}
	for i := range h.count {
		for _, s := range h.named[:h.names] {
			if sameFold(h.fields[i].name.in(buf), s.in(buf)) {
				h.fields[i].hop = true
			}
		}
	}
	return None
}

// option takes in one element of a Connection field.
func (h *Head) option(buf []byte, s span) Fault {
	switch e := s.in(buf); {
	case len(e) == 0:
		return None
	case is(e, "close"):
		h.closes = true
		return None
	case is(e, "keep-alive"):
		h.keep = true
		return None
	case is(e, "upgrade"):
		h.upgrades = true
		return None
	case !all(e, isToken) || h.names == maxNamed:
		return BadConnection
	}
	if k, twin := classify(s.in(buf)); twin || k.vital() {
		return BadConnection
	}
	h.named[h.names] = s
	h.names++
	return None
}

// framing is the rule that requests and answers share: one way to say where a
// body ends, and only where the version has it.
func (h *Head) framing() Fault {
	switch {
	case h.coded && h.hasLength:
		return LengthAndCoding
	case h.coded && h.minor == 0:
		return CodingOnOldVersion
	}
	return None
}
