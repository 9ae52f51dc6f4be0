// Package h1 is the router's HTTP/1.1 engine: a strict parser, the state of one
// exchange, and a driver with a goroutine per connection.
//
// The parser and the exchange know no I/O: bytes go in, a result comes out, and
// any split of the bytes gives the same result. The parser is an allow-list:
// what it does not know is refused, because the part behind us might read it
// differently. Nothing that was received is forwarded as it came: heads and the
// framing of bodies are written anew. An upstream connection is used again only
// after an exchange that left nothing open.
package h1

// Limits bound what a peer may send as framing. The zero value of a field takes
// its default.
type Limits struct {
	Line    int // bytes of the first line, and of each field line, with its CRLF
	Head    int // bytes of a whole head
	Fields  int // fields of a head, at most MaxFields
	Trailer int // bytes of a trailer section
}

// The defaults of Limits, and the bounds that are not for choice.
const (
	defaultLine    = 16 << 10
	defaultHead    = 32 << 10
	defaultFields  = 100
	defaultTrailer = 4 << 10

	// MaxFields is the most fields that a head can hold.
	MaxFields = 128

	maxMethod   = 32      // bytes
	maxNamed    = 16      // fields that one head's Connection may name
	maxDigits   = 16      // of a Content-Length: under 2^53, which every peer can count to
	maxSize     = 13      // hex digits of a chunk's size
	maxSizeLine = 256     // bytes of a chunk's size line, extensions included
	maxBlank    = 1 << 16 // chunk extension bytes of one body
	maxInterim  = 8       // 1xx answers of one exchange
)

func (l Limits) orDefaults() Limits {
	for _, v := range []struct {
		field *int
		value int
	}{{&l.Line, defaultLine}, {&l.Head, defaultHead}, {&l.Fields, defaultFields}, {&l.Trailer, defaultTrailer}} {
		if *v.field <= 0 {
			*v.field = v.value
		}
	}
	l.Fields = min(l.Fields, MaxFields)
	return l
}

// A Length is how a body's end is known: by a number of bytes, or one of the
// two constants.
type Length int64

// The lengths that are no number.
const (
	Chunked    Length = -1 // by the last chunk
	UntilClose Length = -2 // by the end of the connection; answers only
)
