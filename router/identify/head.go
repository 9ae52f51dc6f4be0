package identify

import (
	"net/http"
	"strings"

	"github.com/cellway/cellway/directory/token"
)

// A Head is what the chain reads of a request, whichever engine parsed it. Reset
// it, then Add every header field. It can be used again, and keeps nothing but
// strings that it was given: they must stay as they are until the chain has run.
type Head struct {
	Method  string
	Host    string
	Path    string // decoded
	Escaped string // as it was sent

	bearer, tenant once // Authorization, Header
	cookies        []string
	recalls        bool         // nothing is verified anew; set by the chain, as what follows
	verified       bool         // there are claims
	claims         token.Claims // of a verified token or key: a copy, the chain writes to it
	subject        [keySubject]byte
	kept           bool // what was verified stays here: see Result
	key            bool // it is an API key
	waived         bool
	err            error // the first name that may not come from outside
}

// once is a field that may be there once.
type once struct {
	value string
	count int
}

func (o *once) add(value string) {
	if o.count++; o.count == 1 {
		o.value = value
	}
}

// HeadOf is the head of a request that net/http parsed.
func HeadOf(r *http.Request) *Head {
	h := &Head{}
	h.Reset(r.Method, r.Host, r.URL.Path, r.URL.EscapedPath())
	for name, values := range r.Header {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	for name := range r.Trailer {
		h.note(checkListed(name))
	}
	return h
}

// Reset makes h a head without fields.
func (h *Head) Reset(method, host, path, escaped string) {
	clear(h.cookies)
	*h = Head{Method: method, Host: host, Path: path, Escaped: escaped, cookies: h.cookies[:0]}
}

// Add adds one header field. Its name is taken in any case.
func (h *Head) Add(name, value string) {
	h.note(checkName(name))
	switch len(name) {
	case len("Te"):
		h.list(name, "Te", value)
	case len("Cookie"):
		if strings.EqualFold(name, "Cookie") {
			h.cookies = append(h.cookies, value)
		}
	case len("Trailer"):
		h.list(name, "Trailer", value)
	case len(Header):
		if strings.EqualFold(name, Header) {
			h.tenant.add(value)
		}
	case len("Connection"): // and Keep-Alive
		h.list(name, "Connection", value)
		h.list(name, "Keep-Alive", value)
	case len("Authorization"):
		if strings.EqualFold(name, "Authorization") {
			h.bearer.add(value)
		}
	case len("Proxy-Connection"):
		h.list(name, "Proxy-Connection", value)
	}
}

// list checks the names in value, if name is the field want.
func (h *Head) list(name, want, value string) {
	if !strings.EqualFold(name, want) {
		return
	}
	for element := range strings.SplitSeq(value, ",") {
		element, _, _ = strings.Cut(element, ";")
		h.note(checkListed(strings.Trim(element, " \t")))
	}
}

func (h *Head) note(err error) {
	if h.err == nil {
		h.err = err
	}
}

// know notes what a credential says.
func (h *Head) know(c token.Claims) { h.claims, h.verified = c, true }

// known is what a credential says, nil where there was none.
func (h *Head) known() *token.Claims {
	if !h.verified {
		return nil
	}
	return &h.claims
}
