package h1

// A known is a field name that the engine acts on.
type known uint8

const (
	other known = iota
	host
	contentLength
	transferEncoding
	connection
	keepAlive
	proxyConnection
	proxyAuthenticate
	proxyAuthorization
	te
	trailer
	upgrade
	expect
	date
	authorization
	cookie
	contentType
	setCookie
)

// names is what each known name folds to.
var names = [...]string{
	host: "host", contentLength: "content-length", transferEncoding: "transfer-encoding", connection: "connection",
	keepAlive: "keep-alive", proxyConnection: "proxy-connection", proxyAuthenticate: "proxy-authenticate",
	proxyAuthorization: "proxy-authorization", te: "te", trailer: "trailer", upgrade: "upgrade", expect: "expect",
	date: "date", authorization: "authorization", cookie: "cookie", contentType: "content-type", setCookie: "set-cookie",
}

// byLength is the known names of each length, so that most names of a head are
// told apart from them at once.
var byLength = func() (t [20][]known) {
	for k, name := range names {
		if name != "" {
			t[len(name)] = append(t[len(name)], known(k)) //nolint:gosec // as many as there are constants
		}
	}
	return t
}()

// classify is which known name a name is; twin is true where it is one only
// for servers that take "_" for "-".
func classify[T string | []byte](name T) (k known, twin bool) {
	if len(name) >= len(byLength) {
		return other, false
	}
	for _, k := range byLength[len(name)] {
		if folds(name, names[k]) {
			return k, !is(name, names[k])
		}
	}
	return other, false
}

// hop reports whether a field is of one connection only, or of framing, which is
// written anew: it is never passed on as it came.
func (k known) hop() bool {
	switch k {
	case host, contentLength, transferEncoding, connection, keepAlive, proxyConnection, proxyAuthenticate,
		proxyAuthorization, te, trailer, upgrade, expect:
		return true
	}
	return false
}

// vital reports whether a Connection field that names the field could change
// what a message means to the next one that reads it.
func (k known) vital() bool {
	switch k {
	case host, contentLength, transferEncoding, authorization, cookie, setCookie, date, expect:
		return true
	}
	return false
}
