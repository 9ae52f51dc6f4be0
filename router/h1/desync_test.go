package h1

import (
	"slices"
	"strings"
	"testing"
)

// A refusal is a request that must not pass, and why not.
type refusal struct {
	class string // the name under which the attack or the defect is known
	in    string
	want  Fault
}

// desync makes the cases of one class after the other.
func desync() []refusal {
	return slices.Concat(lengthAgainstCoding(), twoCodings(), oddCodings(), twoLengths(), oddLengths(), hiddenFraming(),
		bareLines(), controls(), foldedLines(), oddFields(), oddChunks(), hosts(), targets(), requestLines(), versions(),
		connections(), expectations(), upgrades(), limits())
}

func post(fields ...string) string {
	return "POST / HTTP/1.1\r\nHost: a.example\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

func lengthAgainstCoding() (c []refusal) {
	for _, length := range []string{"Content-Length: 0", "Content-Length: 4", "content-length:  13", "CONTENT-LENGTH:6"} {
		for _, coding := range []string{"Transfer-Encoding: chunked", "transfer-encoding:chunked", "Transfer-Encoding: CHUNKED", "tRANSFER-eNCODING:\tChunked \t"} {
			c = append(c, refusal{"CL.TE", post(length, coding) + "0\r\n\r\nG", LengthAndCoding},
				refusal{"TE.CL", post(coding, length) + "5c\r\nGPOST", LengthAndCoding},
				refusal{"CL.TE apart", post(length, "X: y", coding) + "0\r\n\r\n", LengthAndCoding})
		}
	}
	return c
}

func twoCodings() (c []refusal) {
	values := []string{"chunked", "identity", "gzip", "", "chunked, chunked", "xchunked"}
	for _, a := range values {
		for _, b := range values {
			c = append(c, refusal{"TE.TE", post("Transfer-Encoding: "+a, "Transfer-encoding: "+b) + "0\r\n\r\n", BadCoding})
		}
	}
	return c
}

func oddCodings() (c []refusal) {
	for _, v := range []string{
		"", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, identity", "chunked,", ",chunked", "chunked;", "chunked;q=1",
		"\"chunked\"", "'chunked'", "xchunked", "chunkedx", "chunk", "chunked chunked", "chunked, chunked", "chu nked", "cow", "x",
		"chunked\u00a0", "\u00a0chunked", "chun\u212aed", "deflate", "compress", "chunked,,", "chunked ,x", "(chunked)", "chunked=1", "trailers",
		"chunKed, cow", "identity, chunked", "br", "0", "chunked:chunked", "\xa0chunked", "chunked\x85", "chunked/1", "[chunked]", "nil",
	} {
		c = append(c, refusal{"TE odd value", post("Transfer-Encoding: "+v) + "0\r\n\r\n", BadCoding})
	}
	c = append(c, refusal{"TE on 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CodingOnOldVersion})
	return c
}

func twoLengths() (c []refusal) {
	values := []string{"0", "1", "5", "05", "00"}
	for _, a := range values {
		for _, b := range values {
			c = append(c, refusal{"CL.CL", post("Content-Length: "+a, "Content-Length: "+b) + "12345", TwoLengths})
		}
	}
	for _, v := range []string{"5,5", "5, 5", "5,", ",5", "0,5", "5, 6"} {
		c = append(c, refusal{"CL.CL list", post("Content-Length: "+v) + "12345", BadLength})
	}
	return c
}

func oddLengths() (c []refusal) {
	for _, v := range []string{
		"", "+5", "-5", "-0", "0x5", "5x", "x5", "5 5", "5\t5", "5.", "5.0", "5e0", "1e1", "5_0", "0b1", "0o5", "\"5\"", "'5'", "5;", "5;5",
		"\u0665", "\uff15", "\xa05", "5\xa0", "5\x85", "NaN", "null", "9007199254740993", "9999999999999999", "18446744073709551616", "18446744073709551621",
		"4294967296000000000", "00000000000000005", "99999999999999999999999999", "five", "0 0", "5/1", "(5)", "5:", "=5",
	} {
		c = append(c, refusal{"CL odd value", post("Content-Length: "+v) + "12345", BadLength})
	}
	return c
}

// hiddenFraming spells the name of a framing field so that some see it and
// others do not.
func hiddenFraming() (c []refusal) {
	for _, f := range []struct{ name, value, class string }{
		{"Content-Length", "5", "0.CL"}, {"Transfer-Encoding", "chunked", "0.TE"}, {"Content-Length", "0", "CL.0"},
	} {
		for _, spelled := range []struct {
			line string
			want Fault
		}{
			{f.name + " : " + f.value, BadName},
			{f.name + "\t: " + f.value, BadName},
			{" " + f.name + ": " + f.value, Folded},
			{"\t" + f.name + ": " + f.value, Folded},
			{strings.Replace(f.name, "-", "_", 1) + ": " + f.value, TwinName},
			{strings.ToUpper(strings.Replace(f.name, "-", "_", 1)) + ": " + f.value, TwinName},
			{strings.Replace(f.name, "-", " ", 1) + ": " + f.value, BadName},
			{strings.Replace(f.name, "-", "\u2010", 1) + ": " + f.value, BadName},
			{"\x0b" + f.name + ": " + f.value, BadName},
			{"\x00" + f.name + ": " + f.value, BadName},
			{f.name + "\x00: " + f.value, BadName},
			{f.name + "\xa0: " + f.value, BadName},
			{f.name + " " + f.value, BadField},
			{f.name + "=" + f.value, BadField},
			{"\"" + f.name + "\": " + f.value, BadName},
			{f.name + "\r: " + f.value, BadName},
			{"X: y\r" + f.name + ": " + f.value, BadValue},
			{"X: y\n" + f.name + ": " + f.value, BareLF},
			{"X: y\r\r\n" + f.name + ": " + f.value, BadValue},
			{"X: y\n\r" + f.name + ": " + f.value, BareLF},
			{f.name + ":\r\n " + f.value, 0}, // the value comes on a line of its own
			{f.name + ": \x00" + f.value, BadValue},
			{f.name + ": " + f.value + "\x00", BadValue},
			{f.name + ": " + f.value + "\x0b", BadValue},
			{f.name + ": \x0c" + f.value, BadValue},
			{f.name + ": " + f.value + "\x7f", BadValue},
			{"X\r\n" + f.name + ": " + f.value, BadField},
			{"\r" + f.name + ": " + f.value, BadName},
		} {
			c = append(c, refusal{f.class + " hidden", post("A: b", spelled.line) + "12345", spelled.want})
		}
	}
	return c
}

func bareLines() (c []refusal) {
	whole := post("X-One: 1", "Content-Length: 0", "X-Two: 2")
	for i := range strings.Count(whole, "\r\n") {
		parts := strings.Split(whole, "\r\n")
		join := func(with string) string {
			return strings.Join(parts[:i+1], "\r\n") + with + strings.Join(parts[i+1:], "\r\n")
		}
		c = append(c, refusal{"bare LF", join("\n"), BareLF}, refusal{"LF CR", join("\n\r"), BareLF},
			refusal{"bare CR", join("\r") + "\r\n\r\n", 0}, refusal{"CR CR LF", join("\r\r\n"), 0})
	}
	return append(c, refusal{"bare LF", strings.ReplaceAll(whole, "\r\n", "\n"), BareLF},
		refusal{"leading LF", "\n" + whole, BareLF}, refusal{"leading CRLF", "\r\n" + whole, BadRequestLine},
		refusal{"leading CR", "\r" + whole, BadMethod}, refusal{"leading space", " " + whole, BadVersion})
}

// controls puts every control character where a careless parser lets it pass.
func controls() (c []refusal) {
	for b := range 0x21 {
		s := string(rune(b))
		if b == '\r' || b == '\n' || b == '\t' || b == ' ' {
			continue
		}
		c = append(c,
			refusal{"control in method", "G" + s + "T / HTTP/1.1\r\nHost: a\r\n\r\n", BadMethod},
			refusal{"control in target", "GET /a" + s + "b HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget},
			refusal{"control in name", post("X" + s + "Y: z"), BadName},
			refusal{"control in value", post("X: y" + s + "z"), BadValue},
			refusal{"control in host", "GET / HTTP/1.1\r\nHost: a" + s + "b\r\n\r\n", BadValue})
	}
	for _, b := range []byte("\x7f\x80\xff\"(),/:;<=>?@[\\]{}") {
		if b != ':' {
			c = append(c, refusal{"no token", post("X" + string([]byte{b}) + "Y: z"), BadName})
		}
		c = append(c, refusal{"no token", "G" + string([]byte{b}) + "T / HTTP/1.1\r\nHost: a\r\n\r\n", BadMethod})
	}
	return c
}

func foldedLines() (c []refusal) {
	for _, before := range []string{"X: y", "Content-Length: 0", "Transfer-Encoding: chunked", "Host: a.example", "X:"} {
		for _, fold := range []string{" z", "\tz", " ", "\t", "  Content-Length: 5", " chunked"} {
			in := "POST / HTTP/1.1\r\n" + before + "\r\n" + fold + "\r\n\r\n"
			want := Folded
			c = append(c, refusal{"obs-fold", in, want})
		}
	}
	return append(c, refusal{"obs-fold first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folded})
}

func oddFields() (c []refusal) {
	for _, line := range []string{":", ": x", " : x", ":x"} {
		want := BadName
		if line[0] == ' ' {
			want = Folded
		}
		c = append(c, refusal{"empty name", post(line), want})
	}
	for _, line := range []string{"x", "GET / HTTP/1.1", "x y", "=", "\x00"} {
		c = append(c, refusal{"no colon", post(line), BadField})
	}
	for _, name := range []string{"Keep_Alive", "Proxy_Connection", "Proxy_Authorization", "set_cookie"} {
		c = append(c, refusal{"twin", post(name + ": x"), TwinName})
	}
	return c
}

func oddChunks() (c []refusal) {
	add := func(class string, want Fault, bodies ...string) {
		for _, b := range bodies {
			c = append(c, refusal{"chunk " + class, post("Transfer-Encoding: chunked") + b, want})
		}
	}
	add("bare LF", BadChunk, "5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5;x\nhello\r\n0\r\n\r\n", "0\n\r\n", "0\n\n", "5\n\r\nhello\r\n0\r\n\r\n")
	add("bare CR", BadChunk, "5\rhello\r\n0\r\n\r\n", "5\r\rhello\r\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello\r\r\n0\r\n\r\n", "0\r\r\n\r\n", "5;x\ry\r\nhello\r\n0\r\n\r\n")
	add("prefix", BadChunk, "0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "_5\r\nhello\r\n0\r\n\r\n", "5_\r\nhello\r\n0\r\n\r\n",
		"#5\r\nhello\r\n0\r\n\r\n", "\"5\"\r\nhello\r\n0\r\n\r\n", "&5\r\nhello\r\n0\r\n\r\n", "\\x5\r\nhello\r\n0\r\n\r\n", "5h\r\nhello\r\n0\r\n\r\n", "g\r\n\r\n", "5.0\r\nhello\r\n0\r\n\r\n", "5,5\r\nhello\r\n0\r\n\r\n")
	add("white space", BadChunk, " 5\r\nhello\r\n0\r\n\r\n", "\t5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\t\r\nhello\r\n0\r\n\r\n", "5 ;x\r\nhello\r\n0\r\n\r\n", "5 5\r\nhello\r\n0\r\n\r\n", "0 \r\n\r\n")
	add("empty size", BadChunk, "\r\nhello\r\n0\r\n\r\n", ";x\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n\r\n0\r\n\r\n", "\n")
	add("wrong size", BadChunk, "4\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "3\r\nhello\r\n0\r\n\r\n", "1\r\nxx\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\r\nhelloX\n0\r\n\r\n")
	add("NUL", BadChunk, "5\x00\r\nhello\r\n0\r\n\r\n", "\x005\r\nhello\r\n0\r\n\r\n", "5;\x00\r\nhello\r\n0\r\n\r\n", "5\r\x00\nhello\r\n0\r\n\r\n", "5\r\nhello\x00\r\n0\r\n\r\n")
	add("overflow", ChunkTooLong, "10000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "00000000000005\r\nhello\r\n0\r\n\r\n", "100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", "7fffffffffffffff\r\n")
	add("huge extension", ChunkTooLong, "5;"+strings.Repeat("x", 300)+"\r\nhello\r\n0\r\n\r\n", "5"+strings.Repeat(";a=b", 100)+"\r\nhello\r\n0\r\n\r\n",
		strings.Repeat("1;"+strings.Repeat("y", 250)+"\r\nx\r\n", 300)+"0\r\n\r\n")
	add("extension", BadChunk, "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n", "5;\x7f\r\nhello\r\n0\r\n\r\n", "5;\x0b\r\nhello\r\n0\r\n\r\n")
	add("trailer framing", BadTrailer, "0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: b\r\n\r\n", "0\r\nConnection: close\r\n\r\n",
		"0\r\nTrailer: x\r\n\r\n", "0\r\nUpgrade: websocket\r\n\r\n", "0\r\nAuthorization: x\r\n\r\n", "0\r\nCookie: a=b\r\n\r\n", "0\r\ncontent_length: 5\r\n\r\n", "0\r\nExpect: 100-continue\r\n\r\n")
	add("trailer syntax", BadName, "0\r\n: x\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\nX\x00: y\r\n\r\n")
	add("trailer syntax", BadField, "0\r\nx\r\n\r\n", "0\r\nGET / HTTP/1.1\r\n\r\n")
	add("trailer fold", Folded, "0\r\nX: y\r\n z\r\n\r\n", "0\r\n X: y\r\n\r\n")
	add("trailer value", BadValue, "0\r\nX: \x00\r\n\r\n", "0\r\nX: y\rz\r\n\r\n", "0\r\nX: y\r\r\n\r\n")
	add("trailer bare LF", BareLF, "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\n", "0\r\n\n")
	add("trailer too large", TrailerTooLarge, "0\r\nX: "+strings.Repeat("y", 5000)+"\r\n\r\n", "0\r\n"+strings.Repeat("X: "+strings.Repeat("y", 100)+"\r\n", 50)+"\r\n")
	add("trailer too many", TooManyFields, "0\r\n"+strings.Repeat("X: y\r\n", 101)+"\r\n")
	return c
}

func hosts() (c []refusal) {
	req := func(target string, fields ...string) string {
		return "GET " + target + " HTTP/1.1\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	}
	c = append(c, refusal{"no host", req("/"), NoHost}, refusal{"no host", req("/", "X: y"), NoHost}, refusal{"no host", req("http://a/"), NoHost},
		refusal{"no host 1.0", "GET / HTTP/1.0\r\n\r\n", NoHost})
	for _, b := range []string{"a", "b", "A", "a:80", ""} {
		c = append(c, refusal{"two hosts", req("/", "Host: a", "host: "+b), TwoHosts}, refusal{"two hosts", req("http://a/", "Host: "+"a", "X: y", "HOST:"+b), TwoHosts})
	}
	for _, v := range []string{
		"", "a b", "a@b", "a/b", "a?b", "a#b", "a,b", "a;b", "user:pw@a", "http://a", "[::1", "::1", "[]", "[::1]x", "[::1%25lo]", "[g::1]", "a:", "a:80:80", "a:x", "a:123456",
		"a\\b", "a%00b", "a%2eb", "*", "a\u00e9", "\xff", "a:-1", "a:+1", "[::1]:x", "(a)", "a'b", "a|b", "a\tb", "a!b", "a$b", ":80", "[a]b", "a[::1]",
	} {
		if v == "a:" { // RFC 9110 allows an empty port
			continue
		}
		c = append(c, refusal{"bad host", req("/", "Host: "+v), BadHost})
	}
	for _, t := range []string{"http://b/", "http://a.b/", "http://a:80/", "http://a./", "HTTP://b/", "https://b/x", "http://b", "http://b?x", "http://user@a/", "http://a@b/", "http:///", "http://", "http://a\\/", "http://a%2f/"} {
		c = append(c, refusal{"absolute form", req(t, "Host: a"), HostMismatch})
	}
	return c
}

func targets() (c []refusal) {
	for _, t := range []string{
		"x", "a/b", "index.html", "..", "**", "*/", "*", "?x", "a:80", "//:", "ftp://a/", "ws://a/", "file:///etc", "javascript:x", "http:/a/", "http:a", "://a/", "htt\x70s:", "%2f", ";",
		"/%", "/%2", "/%zz", "/%2g", "/a%", "/%%2f", "/%-1", "/% 41", "/a%2?x=%41", "/#", "/a#b", "/a?b#c", "#", "/\u00e9", "/\xff", "/a\x80",
	} {
		if t == "//:" { // a path: the router's own check refuses an empty first segment
			continue
		}
		want := BadTarget
		if strings.Contains(t, " ") {
			want = BadVersion
		}
		c = append(c, refusal{"bad target", "GET " + t + " HTTP/1.1\r\nHost: a\r\n\r\n", want})
	}
	return c
}

func requestLines() (c []refusal) {
	for line, want := range map[string]Fault{
		"":                                      BadRequestLine,
		"GET":                                   BadRequestLine,
		"GET /":                                 BadRequestLine,
		"GET / ":                                BadVersion,
		"GET  / HTTP/1.1":                       BadVersion,
		"GET /  HTTP/1.1":                       BadVersion,
		"GET\t/ HTTP/1.1":                       BadRequestLine,
		"GET /\tHTTP/1.1":                       BadRequestLine,
		"GET / HTTP/1.1 ":                       BadVersion,
		"GET / HTTP/1.1 x":                      BadVersion,
		"GET / x HTTP/1.1":                      BadVersion,
		" GET / HTTP/1.1":                       BadVersion,
		"GET /\x0bHTTP/1.1":                     BadRequestLine,
		" / HTTP/1.1":                           BadMethod,
		"GE,T / HTTP/1.1":                       BadMethod,
		"\"GET\" / HTTP/1.1":                    BadMethod,
		"GET: / HTTP/1.1":                       BadMethod,
		"CONNECT a:443 HTTP/1.1":                MethodRefused,
		"CONNECT / HTTP/1.1":                    MethodRefused,
		"PRI * HTTP/2.0":                        VersionRefused,
		"GET * HTTP/1.1":                        BadTarget,
		"POST * HTTP/1.1":                       BadTarget,
		"options * HTTP/1.1":                    BadTarget,
		strings.Repeat("G", 33) + " / HTTP/1.1": BadMethod,
	} {
		c = append(c, refusal{"request line", line + "\r\nHost: a\r\n\r\n", want})
	}
	return append(c, refusal{"TLS", "\x16\x03\x01\x02\x00\x01\n", BareLF})
}

func versions() (c []refusal) {
	for _, v := range []string{"HTTP/2.0", "HTTP/1.2", "HTTP/1.9", "HTTP/0.9", "HTTP/3.0", "HTTP/9.1"} {
		c = append(c, refusal{"other version", "GET / " + v + "\r\nHost: a\r\n\r\n", VersionRefused})
	}
	for _, v := range []string{
		"HTTP/1", "HTTP/1.", "HTTP/1.10", "HTTP/01.1", "HTTP/11", "http/1.1", "Http/1.1", "HTTP/1,1", "HTTP/1.1x", "HTTP1.1", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP/1.\x01", "HTTPS/1.1",
		"HTTP/a.b", "HTTP/-1.1", "HTTP/+1.1", "ICE/1.0", "HTTP/\uff11.1", "HTTP/1.1\x00", "1.1", "/", "HTTP\\1.1", "HTTP//1.1",
	} {
		c = append(c, refusal{"bad version", "GET / " + v + "\r\nHost: a\r\n\r\n", BadVersion})
	}
	return c
}

func connections() (c []refusal) {
	for _, v := range []string{"Host", "content-length", "Transfer-Encoding", "Authorization", "cookie", "Content_Length", "Set-Cookie", "Date", "Expect"} {
		c = append(c, refusal{"Connection names", post("Connection: close, " + v), BadConnection}, refusal{"Connection names", post("Connection: " + v), BadConnection})
	}
	for _, v := range []string{"a b", "\"close\"", "x;y", "x=y", "a/b", "(x)", "\u00e9", "keep-alive; x", "x,y z"} {
		c = append(c, refusal{"Connection syntax", post("Connection: " + v), BadConnection})
	}
	return append(c, refusal{"Connection names too many", post("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"), BadConnection})
}

func expectations() (c []refusal) {
	for _, v := range []string{"", "100", "200-ok", "100-continue, x", "100-continue=1", "x", "100_continue", "100-continue,100-continue"} {
		c = append(c, refusal{"Expect", post("Expect: "+v, "Content-Length: 0"), BadExpect})
	}
	return append(c, refusal{"Expect twice", post("Expect: 100-continue", "Expect: 100-continue"), BadExpect})
}

func upgrades() (c []refusal) {
	up := func(fields ...string) string {
		return "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	}
	return []refusal{
		{"Upgrade with a body", up("Upgrade: websocket", "Content-Length: 5") + "hello", BadUpgrade},
		{"Upgrade with a body", up("Upgrade: websocket", "Transfer-Encoding: chunked") + "0\r\n\r\n", BadUpgrade},
		{"Upgrade twice", up("Upgrade: websocket", "Upgrade: h2c"), BadUpgrade},
	}
}

func limits() []refusal {
	long := strings.Repeat("x", 17<<10)
	return []refusal{
		{"long target", "GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", TargetTooLong},
		{"long target without end", "GET /" + long, TargetTooLong},
		{"long method", long + " / HTTP/1.1\r\n\r\n", TargetTooLong},
		{"long line", post("X: " + long), LineTooLong},
		{"long line without end", "POST / HTTP/1.1\r\nHost: a\r\nX: " + long, LineTooLong},
		{"long name", post(long + ": x"), LineTooLong},
		{"large head", post(strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 40) + "A: b"), HeadTooLarge},
		{"many fields", post(strings.Repeat("X: y\r\n", 120) + "A: b"), TooManyFields},
	}
}

// TestDesync: every class of request that two servers could read differently is
// refused, for the reason that it has.
func TestDesync(t *testing.T) {
	t.Parallel()
	cases := desync()
	if len(cases) < 500 {
		t.Errorf("got %d cases, want at least 500", len(cases))
	}
	for i, c := range cases {
		all, err := judge([]byte(c.in))
		if err == nil || err == errIncomplete { //nolint:errorlint // a value of this package
			t.Errorf("%s (%d): %.200q passed as %+v (%v)", c.class, i, c.in, all, err)
			continue
		}
		if c.want != None && err != error(c.want) { //nolint:errorlint // as above
			t.Errorf("%s (%d): %.200q: got %q, want %q", c.class, i, c.in, err, c.want)
		}
	}
	classes := map[string]int{}
	for _, c := range cases {
		classes[c.class]++
	}
	t.Logf("%d cases in %d classes", len(cases), len(classes))
}
