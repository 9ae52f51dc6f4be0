package peers

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
)

// origin answers on addr for ever: /b/N with N bytes, /c/N with N bytes in
// chunks of 4 KiB, whatever was sent. One thread, one loop: it must cost less
// than any proxy.
func origin(addr string) error {
	return serve(addr, &originLoop{answers: map[string][]byte{}, in: make([]byte, 256<<10)})
}

type originLoop struct {
	conns   []*originConn // by file descriptor
	answers map[string][]byte
	in      []byte
}

type originConn struct {
	outlet
	framing
}

func (o *originLoop) accept(p *poller, ln int) {
	for {
		fd, ok := accept(ln)
		if !ok {
			return
		}
		for len(o.conns) <= fd {
			o.conns = append(o.conns, nil)
		}
		o.conns[fd] = &originConn{outlet: outlet{fd: fd}}
		if p.add(fd) != nil {
			o.conns[fd] = nil
			_ = syscall.Close(fd)
		}
	}
}

func (o *originLoop) happened(fd int32) {
	if c := o.conns[fd]; c != nil && !o.drive(c) {
		o.conns[fd] = nil
		_ = syscall.Close(c.fd)
	}
}

// drive does what a connection allows now; false means that it is over.
func (o *originLoop) drive(c *originConn) bool {
	if !c.flush() {
		return false
	}
	for {
		n, errno := rawCall(syscall.SYS_READ, c.fd, o.in)
		switch {
		case errno == syscall.EAGAIN:
			return true
		case errno != 0 || n == 0:
			return false
		}
		for rest := o.in[:n]; len(rest) > 0; {
			var whole bool
			var err error
			if rest, whole, err = c.feed(rest); err != nil {
				return false
			}
			if !whole {
				break
			}
			answer := o.answer(c.target())
			if len(c.out) == 0 {
				c.out = answer
			} else {
				c.out = append(bytes.Clone(c.out), answer...) // pipelined: rare, so copied
			}
			if !c.flush() {
				return false
			}
		}
		if n < len(o.in) {
			return true
		}
	}
}

// answer is the whole response to a path; each is made once and never changed.
func (o *originLoop) answer(path []byte) []byte {
	if a, ok := o.answers[string(path)]; ok {
		return a
	}
	a := makeAnswer(string(path))
	o.answers[string(path)] = a
	return a
}

const maxAnswer = 128 << 20

func makeAnswer(path string) []byte {
	var size int
	if len(path) > 3 {
		size, _ = strconv.Atoi(path[3:]) // 0 of what is no number
	}
	size = min(max(size, 0), maxAnswer)
	var b bytes.Buffer
	if len(path) < 3 || path[:3] != "/c/" {
		fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
		b.Write(bytes.Repeat([]byte("x"), size))
		return b.Bytes()
	}
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	for size > 0 {
		n := min(size, 4<<10)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, bytes.Repeat([]byte("x"), n))
		size -= n
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}
