package pgproxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
)

// The messages that the proxy tells apart; see the protocol's documentation.
const (
	query    = 'Q' // of the client: simple query
	endQuery = 'S' // of the client: end of an extended query
	copyDone = 'c' // of the client: end of a COPY
	ready    = 'Z' // of the server: it waits for the next statement
)

// Codes that stand where a startup message has its protocol version.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

// longest bounds a message: Postgres's own bound.
const longest = 1 << 30

var errMalformed = errors.New("malformed message")

// A session is one client's connection.
type session struct {
	proxy          *Proxy
	client, server net.Conn

	mu    sync.Mutex
	asked int // statements sent that end with the server being ready; the start is one
	ready int // times that it was
	mute  int // keep back everything after it was ready so many times; 0: nothing
}

// statements forwards what the client says, until it ends or a fault ends it.
func (s *session) statements() {
	in, w := bufio.NewReader(s.client), way{proxy: s.proxy}
	if s.start(in) != nil {
		return
	}
	for {
		msg, err := message(in)
		if err != nil {
			return
		}
		if !s.forward(msg, &w) {
			return
		}
	}
}

// start forwards what comes before the first message that has a type.
func (s *session) start(in *bufio.Reader) error {
	for {
		msg, err := body(in, nil)
		if err != nil {
			return err
		}
		if len(msg) < 8 {
			return errMalformed
		}
		switch binary.BigEndian.Uint32(msg[4:]) {
		case sslRequest, gssRequest:
			if _, err := s.client.Write([]byte{'N'}); err != nil { // no encryption
				return err
			}
			continue
		case cancelRequest:
		default:
			s.count()
		}
		_, err = s.server.Write(msg)
		return err
	}
}

// forward sends one message on, unless a fault meets it; false ends the connection.
func (s *session) forward(msg []byte, w *way) bool {
	var f *Fault
	statement := msg[0] == query || msg[0] == endQuery || msg[0] == copyDone
	if statement {
		f = s.proxy.take(isCommit(msg))
		s.proxy.strikes(f)
	}
	if !w.pass(len(msg), statement) {
		return false
	}
	if f != nil {
		switch f.Kind {
		case Before:
			return false
		case Cut:
			_, _ = s.server.Write(msg[:len(msg)/2]) // the connection ends either way
			return false
		case Stall:
			if !s.proxy.stall(f.Stall) {
				return false
			}
		}
	}
	if msg[0] == query || msg[0] == endQuery {
		s.count()
	}
	if f != nil && f.Kind == Answer {
		s.keepBack()
	}
	_, err := s.server.Write(msg)
	return err == nil
}

// isCommit reports whether a message is the statement "commit" by itself.
func isCommit(msg []byte) bool {
	if msg[0] != query {
		return false
	}
	sql := strings.TrimRight(string(msg[5:min(len(msg), 32)]), "\x00; ")
	return strings.EqualFold(sql, "commit")
}

func (s *session) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
}

// keepBack keeps back the answer to the last statement that was counted.
func (s *session) keepBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = s.asked - 1
}

// awaitsAnswer reports whether an answer is being kept back that the server has
// not given: the statement is to be executed first.
func (s *session) awaitsAnswer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mute > 0 && s.ready <= s.mute
}

// answers forwards what the server says. It returns when either side ends, or
// when the server has done the statement whose answer is kept back.
func (s *session) answers() {
	in := bufio.NewReader(s.server)
	out, w := bufio.NewWriter(s.client), way{proxy: s.proxy}
	for {
		msg, err := message(in)
		if err != nil {
			return
		}
		keep, last := s.heard(msg[0])
		if last {
			return
		}
		if keep {
			continue
		}
		if !w.pass(len(msg), in.Buffered() == 0) {
			return
		}
		if _, err := out.Write(msg); err != nil {
			return
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// heard takes note of a message of the server and says whether to keep it back,
// and whether it is the last one of what is kept back.
func (s *session) heard(kind byte) (keep, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep = s.mute > 0 && s.ready >= s.mute
	if kind == ready {
		s.ready++
	}
	return keep, keep && kind == ready
}

// message reads one message with its type and length.
func message(in *bufio.Reader) ([]byte, error) {
	kind, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	return body(in, []byte{kind})
}

// body reads a length and what it counts, itself included, and appends both to head.
func body(in *bufio.Reader, head []byte) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > longest {
		return nil, errMalformed
	}
	msg := make([]byte, len(head)+int(n))
	copy(msg, head)
	copy(msg[len(head):], length[:])
	_, err := io.ReadFull(in, msg[len(head)+4:])
	return msg, err
}
