package h1

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A told is what an Exchange said of an upstream's bytes.
type told struct {
	interim  []int
	status   int
	fields   []string
	body     string
	trailer  string
	switched bool
	whole    bool
	left     string
	reusable bool
	fault    Fault
}

func (a told) equal(b told) bool {
	return slices.Equal(a.interim, b.interim) && a.status == b.status && slices.Equal(a.fields, b.fields) && a.body == b.body && a.trailer == b.trailer &&
		a.switched == b.switched && a.whole == b.whole && a.left == b.left && a.reusable == b.reusable && a.fault == b.fault
}

// converse runs an Exchange over in, cut as sizes say; at its end the upstream
// closes if closed.
func converse(in string, toHead, socket, closed bool, sizes ...int) (t told) {
	var x Exchange
	x.Begin(Limits{}, toHead, socket, true)
	x.Sent()
	at, have := 0, 0
	for {
		ev, data, n, f := x.Next([]byte(in[at:have]))
		at += n
		t.body += string(data)
		if f != None {
			t.fault = f
			return t
		}
		switch ev {
		case Interim:
			t.interim = append(t.interim, x.Answer.Status())
			x.Passed()
		case Began, Switched:
			t.status = x.Answer.Status()
			for i := range x.Answer.Len() {
				if x.Answer.PassedOn(i) {
					t.fields = append(t.fields, x.Answer.Name(i)+": "+x.Answer.Value(i))
				}
			}
			if t.switched = ev == Switched; t.switched {
				t.left = in[at:]
				return t
			}
		case Ended:
			t.whole, t.trailer, t.left = true, string(x.Trailer()), in[at:]
			t.reusable = x.Reusable(len(t.left))
			return t
		case More:
			if have == len(in) {
				if closed {
					t.fault = x.Closed()
					t.whole = t.fault == None
				}
				return t
			}
			step := len(in)
			if len(sizes) > 0 {
				if step = max(1, sizes[0]); len(sizes) > 1 {
					sizes = sizes[1:]
				}
			}
			have = min(len(in), have+step)
		}
	}
}

func TestAnswersThatPass(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in     string
		toHead bool
		want   told
	}{
		"length":              {"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nhi", false, told{status: 200, fields: []string{"X: y"}, body: "hi", whole: true, reusable: true}},
		"no reason":           {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, told{status: 200, whole: true, reusable: true}},
		"chunked":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: v\r\n\r\n", false, told{status: 200, body: "hi", trailer: "X-T: v\r\n", whole: true, reusable: true}},
		"until close":         {"HTTP/1.1 200 OK\r\n\r\nhi", false, told{status: 200, body: "hi", whole: true}},
		"HTTP/1.0":            {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, told{status: 200, body: "hi", whole: true}},
		"close":               {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", false, told{status: 200, body: "hi", whole: true}},
		"to HEAD":             {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", true, told{status: 200, whole: true, reusable: true}},
		"to HEAD, chunked":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, told{status: 200, whole: true, reusable: true}},
		"204":                 {"HTTP/1.1 204 No Content\r\n\r\n", false, told{status: 204, whole: true, reusable: true}},
		"204 with a length":   {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, told{status: 204, whole: true}},
		"304 with a length":   {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, told{status: 304, whole: true, reusable: true}},
		"interim":             {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false, told{interim: []int{100, 103}, status: 204, whole: true, reusable: true}},
		"interim with a body": {"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false, told{interim: []int{103}, status: 204, whole: true}},
		"interim in chunks":   {"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false, told{interim: []int{103, 103}, status: 204, whole: true}},
		"interim that closes": {"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false, told{interim: []int{103}, status: 204, whole: true}},
		"hop fields":          {"HTTP/1.1 204 No Content\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nY: z\r\n\r\n", false, told{status: 204, fields: []string{"Y: z"}, whole: true, reusable: true}},
		"more than asked":     {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n", false, told{status: 200, body: "hi", whole: true, left: "HTTP/1.1 200 OK\r\n\r\n"}},
		"a body to HEAD":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true, told{status: 200, whole: true, left: "hi"}},
	} {
		if got := converse(tt.in, tt.toHead, false, true); !got.equal(tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	interim := "HTTP/1.1 103 Early Hints\r\n\r\n"
	for name, tt := range map[string]struct {
		in   string
		want Fault
	}{
		"garbage":               {"SSH-2.0-OpenSSH_9\r\n", BadStatusLine},
		"a request":             {"GET / HTTP/1.1\r\n\r\n", BadStatusLine},
		"bare LF":               {"HTTP/1.1 200 OK\n\n", BareLF},
		"leading CRLF":          {"\r\n" + ok, BadStatusLine},
		"version 2":             {"HTTP/2.0 200 OK\r\n\r\n", VersionRefused},
		"lower case":            {"http/1.1 200 OK\r\n\r\n", BadVersion},
		"two spaces":            {"HTTP/1.1  200 OK\r\n\r\n", BadStatusLine},
		"short status":          {"HTTP/1.1 20 OK\r\n\r\n", BadStatusLine},
		"long status":           {"HTTP/1.1 2000 OK\r\n\r\n", BadStatusLine},
		"signed status":         {"HTTP/1.1 +20 OK\r\n\r\n", BadStatusLine},
		"status 099":            {"HTTP/1.1 099 OK\r\n\r\n", BadStatus},
		"status 600":            {"HTTP/1.1 600 OK\r\n\r\n", BadStatus},
		"NUL in reason":         {"HTTP/1.1 200 O\x00K\r\n\r\n", BadStatusLine},
		"CR in reason":          {"HTTP/1.1 200 O\rK\r\n\r\n", BadStatusLine},
		"1xx of 1.0":            {"HTTP/1.0 103 Early\r\n\r\n", BadStatus},
		"two lengths":           {ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", TwoLengths},
		"list of lengths":       {ok + "Content-Length: 2, 2\r\n\r\nhi", BadLength},
		"negative length":       {ok + "Content-Length: -2\r\n\r\nhi", BadLength},
		"both":                  {ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndCoding},
		"gzip, chunked":         {ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", BadCoding},
		"chunked on 1.0":        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CodingOnOldVersion},
		"obs-fold":              {ok + "X: y\r\n z\r\n\r\n", Folded},
		"space before colon":    {ok + "Content-Length : 2\r\n\r\n", BadName},
		"twin":                  {ok + "Content_Length: 2\r\n\r\n", TwinName},
		"unasked 101":           {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", UnaskedSwitch},
		"endless 1xx":           {strings.Repeat(interim, 9), TooManyInterim},
		"cut head":              {ok + "X: y", CutShort},
		"nothing":               {"", CutShort},
		"only interim":          {interim, CutShort},
		"cut body":              {ok + "Content-Length: 10\r\n\r\nhello", CutShort},
		"cut chunks":            {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CutShort},
		"cut in the last chunk": {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n", CutShort},
		"bad chunk":             {ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", BadChunk},
		"framing in trailer":    {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", BadTrailer},
		"a cookie in trailer":   {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: a=b\r\n\r\n", BadTrailer},
		"head too large":        {ok + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 40), HeadTooLarge},
	} {
		if got := converse(tt.in, false, false, true); got.fault != tt.want || got.reusable {
			t.Errorf("%s: got %+v, want %q", name, got, tt.want)
		}
	}
}

func TestSwitching(t *testing.T) {
	t.Parallel()
	const yes = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x00"
	if got := converse(yes, false, true, false); !got.switched || got.left != "\x81\x00" || got.reusable {
		t.Errorf("got %+v", got)
	}
	for name, in := range map[string]string{
		"another protocol": strings.Replace(yes, "websocket", "h2c", 1),
		"no Connection":    strings.Replace(yes, "Connection: Upgrade\r\n", "", 1),
		"no Upgrade":       strings.Replace(yes, "Upgrade: websocket\r\n", "", 1),
	} {
		if got := converse(in, false, true, false); got.fault != UnaskedSwitch {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if got := converse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, true, false); got.switched || !got.reusable {
		t.Errorf("declined: got %+v", got)
	}
}

// TestAnAnswerBeforeTheRequestIsSent is whole, and its connection is not reused.
func TestAnAnswerBeforeTheRequestIsSent(t *testing.T) {
	t.Parallel()
	var x Exchange
	x.Begin(Limits{}, false, false, false)
	in := []byte("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
	if ev, _, n, f := x.Next(in); ev != Began || n != len(in) || f != None {
		t.Fatalf("got %v, %d, %v", ev, n, f)
	}
	if ev, _, _, _ := x.Next(nil); ev != Ended || x.Reusable(0) {
		t.Errorf("got %v, reusable %v", ev, x.Reusable(0))
	}
	if x.Sent(); !x.Reusable(0) {
		t.Error("not reusable after the request was sent, too")
	}
}

func TestAnySplitOfAnAnswerGivesTheSame(t *testing.T) {
	t.Parallel()
	parts := []string{
		"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 204 No Content\r\n", "X: y\r\n", "Content-Length: 5\r\n",
		"Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "\r\n", "hello", "5\r\nhello\r\n", "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "\n", "\x00", "HTTP/1.0 200 OK\r\n", " ",
	}
	rapid.Check(t, func(t *rapid.T) {
		in := strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 10).Draw(t, "parts"), "")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 30).Draw(t, "sizes")
		toHead, closed := rapid.Bool().Draw(t, "to HEAD"), rapid.Bool().Draw(t, "closed")
		want := converse(in, toHead, true, closed)
		got := converse(in, toHead, true, closed, sizes...)
		if want.whole && !closed || got.whole {
			want.left, got.left = "", "" // what had come of the next message depends on the cut
			want.reusable, got.reusable = false, false
		}
		if !got.equal(want) {
			t.Fatalf("%q by %v: got %+v, want %+v", in, sizes, got, want)
		}
	})
}
