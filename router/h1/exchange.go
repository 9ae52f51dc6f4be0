package h1

// An Event is what an Exchange says next.
type Event uint8

// The events, in the order in which they may come: any number of Interim, then
// Began, any number of Part, and Ended; or Switched.
const (
	More     Event = iota // it needs more bytes
	Interim               // a 1xx answer to pass on
	Began                 // the answer's head is there
	Part                  // some of the answer's body
	Ended                 // the answer is whole
	Switched              // both sides speak another protocol from here on
)

// An Exchange is one request on an upstream connection and its answer. It is
// told what was sent, is given what is received, and says what to do. It knows
// no I/O.
type Exchange struct {
	Answer  Response // since Interim, Began or Switched; its strings live as long as the bytes given to Next
	limits  Limits
	body    Body
	phase   phase
	toHead  bool
	socket  bool
	trailer bool
	sent    bool
	spent   bool // a 1xx answer was its connection's last, or has announced a body
	interim int
}

type phase uint8

const (
	awaitingHead phase = iota
	inBody
	over
	failed
)

// Begin makes x ready for a request: whether it is HEAD, whether it asks for a
// WebSocket, and whether trailer fields of the answer are wanted.
func (x *Exchange) Begin(l Limits, toHead, socket, trailer bool) {
	x.limits = l
	x.phase, x.toHead, x.socket, x.trailer, x.sent, x.spent, x.interim = awaitingHead, toHead, socket, trailer, false, false, 0
	x.Answer.Begin(l)
}

// Sent tells x that the last byte of the request has been sent.
func (x *Exchange) Sent() { x.sent = true }

// Next takes the next step. in is what was received and not used; n is how many
// of its bytes are used now; data, a part of in, is body. With More the caller
// gives the bytes that are left again, followed by others.
func (x *Exchange) Next(in []byte) (ev Event, data []byte, n int, f Fault) {
	switch x.phase {
	case awaitingHead:
		ev, n, f = x.head(in)
	case inBody:
		ev, data, n, f = x.part(in)
	}
	if f != None {
		x.phase = failed
	}
	return ev, data, n, f
}

func (x *Exchange) head(in []byte) (Event, int, Fault) {
	n, f := x.Answer.Parse(in, x.toHead)
	if f != None || n == 0 {
		return More, 0, f
	}
	x.Answer.Alias(in[:n])
	switch status := x.Answer.Status(); {
	case status == 101:
		if !x.socket || !x.Answer.webSocket() {
			return More, n, UnaskedSwitch
		}
		x.phase = over
		return Switched, n, None
	case status < 200:
		if x.interim++; x.interim > maxInterim {
			return More, n, TooManyInterim
		}
		return Interim, n, None
	}
	x.phase = inBody
	x.body.Begin(x.Answer.Length(), x.limits, x.trailer)
	return Began, n, None
}

// Passed tells x that an Interim answer has been dealt with, so that the bytes
// of the next head may come.
func (x *Exchange) Passed() {
	x.spent = x.spent || x.Answer.Close()
	x.Answer.Begin(x.limits)
}

func (x *Exchange) part(in []byte) (Event, []byte, int, Fault) {
	if x.body.Done() {
		x.phase = over
		return Ended, nil, 0, None
	}
	data, n, f := x.body.Next(in)
	switch {
	case f != None:
		return More, nil, n, f
	case len(data) > 0:
		return Part, data, n, None
	case x.body.Done():
		x.phase = over
		return Ended, nil, n, None
	}
	return More, nil, n, None
}

// Closed tells x that the cell sends no more. The fault says whether that is
// the answer's end or cuts it.
func (x *Exchange) Closed() Fault {
	if x.phase == over {
		return None
	}
	if x.phase != inBody {
		x.phase = failed
		return CutShort
	}
	x.phase = over
	if f := x.body.Closed(); f != None {
		x.phase = failed
		return f
	}
	return None
}

// Left is how many bytes of body are known to be to come.
func (x *Exchange) Left() int64 {
	if x.phase != inBody {
		return 0
	}
	return x.body.Left()
}

// Trailer is the answer's trailer fields, as lines, once it has ended.
func (x *Exchange) Trailer() []byte { return x.body.Trailer() }

// Reusable reports whether another request may follow on the connection, of
// which left bytes were received and not used: only after an exchange of which
// both halves are whole, that neither side ends, and that nothing follows.
func (x *Exchange) Reusable(left int) bool {
	return x.phase == over && x.sent && !x.spent && left == 0 && !x.Answer.Close() && x.Answer.Status() != 101
}
