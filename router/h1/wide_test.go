package h1

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// longBody is a body in which no part is as another.
func longBody() []byte {
	b := make([]byte, 0, large)
	for i := 0; len(b) < large-16; i++ {
		b = fmt.Appendf(b, "%08d\n", i)
	}
	return b
}

// digesting answers an upload with its digest, and /long with a long body. It tells
// read of each piece that it reads, unless that is nil.
func digesting(body []byte, read func(n int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body)
			return
		}
		h, buf := sha256.New(), make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buf)
			_, _ = h.Write(buf[:n])
			if read != nil {
				read(n)
			}
			if err != nil {
				break
			}
		}
		_, _ = fmt.Fprintf(w, "digest %x", h.Sum(nil))
	}
}

// noneLent waits until nothing wide is lent. Its test must not run beside others.
func noneLent() {
	for wides.lent.Load() != 0 {
		runtime.Gosched()
	}
}

// TestLongBodies come and go as they were, one after the other on a connection, on
// every driver, whether there is wide memory for them or not.
func TestLongBodies(t *testing.T) {
	body := longBody()
	digest := fmt.Sprintf("digest %x", sha256.Sum256(body))
	for _, loops := range []int{2, 0} {
		for _, lent := range []int32{0, wideMost} {
			_, _, addr := flown(t, loops, digesting(body, nil), nil)
			wides.lent.Add(lent)
			c := dial(t, addr)
			for range 2 {
				c.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
				c.until("\r\n\r\n")
				got := make([]byte, len(body))
				if _, err := io.ReadFull(c.from, got); err != nil || !bytes.Equal(got, body) {
					t.Fatalf("loops %d, lent %d: another body, %v", loops, lent, err)
				}
				c.send(fmt.Sprintf("POST /handler HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(body)))
				c.send(string(body) + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
				c.until(digest)
				c.until(fmt.Sprintf("digest %x", sha256.Sum256(nil)))
			}
			_ = c.Close()
			wides.lent.Add(-lent)
			noneLent()
		}
	}
}

// TestLongAnswersThatLie: an answer that is longer than its head says is cut there,
// and nobody sees what follows; one that is shorter is no whole answer.
func TestLongAnswersThatLie(t *testing.T) {
	body := strings.Repeat("b", large)
	for _, loops := range []int{2, 0} {
		for name, cell := range map[string]func(net.Conn){
			"longer":  write(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%sFOREIGN", okHead, large, body)),
			"shorter": writeAndClose(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", okHead, large+1, body)),
		} {
			up := &Upstream{Addr: evilCell(t, cell)}
			t.Cleanup(up.Close)
			s := &Server{Direct: &directly{up: up}, Loops: loops, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = up.Forward(w, r, &Outgoing{})
			})}
			addr := serve(t, s)
			c := dial(t, addr)
			c.send("GET /evil HTTP/1.1\r\nHost: a\r\n\r\nGET /x?own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			got := c.ends()
			whole := name == "longer"
			if n := strings.Count(got, "b"); whole && n != large || strings.Contains(got, "FOREIGN") || strings.HasSuffix(got, "own") != whole {
				t.Errorf("loops %d, %s: got %d of the body, and at its end %.200q", loops, name, n, got[max(0, len(got)-200):])
			}
			noneLent()
		}
	}
}

// TestSlowClientsHoldLittle: clients that do not read long answers hold no more than
// may be lent, others are served meanwhile, and each gets its own in the end.
func TestSlowClientsHoldLittle(t *testing.T) {
	body := bytes.Repeat(longBody(), 4) // more than sockets take
	for _, loops := range []int{2, 0} {
		_, _, addr := flown(t, loops, digesting(body, nil), nil)
		slow := make([]*wire, wideMost+2)
		for i := range slow {
			slow[i] = dial(t, addr)
			slow[i].send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
			slow[i].until("\r\n\r\n")
		}
		c := dial(t, addr)
		c.send("GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if got := c.ends(); !strings.HasSuffix(got, string(body)) {
			t.Errorf("loops %d: the bystander got %d bytes", loops, len(got))
		}
		if n := wides.lent.Load(); n > wideMost {
			t.Errorf("loops %d: %d are lent", loops, n)
		}
		var wg sync.WaitGroup
		for _, c := range slow {
			wg.Go(func() {
				got := make([]byte, len(body))
				if _, err := io.ReadFull(c.from, got); err != nil || !bytes.Equal(got, body) {
					t.Errorf("loops %d: another body, %v", loops, err)
				}
				_ = c.Close()
			})
		}
		wg.Wait()
		noneLent()
	}
}

// TestUploadsThatStall hold nothing while nothing comes.
func TestUploadsThatStall(t *testing.T) {
	body := longBody()
	reads := make(chan int, 1<<10)
	_, _, addr := flown(t, 0, digesting(body, func(n int) { reads <- n }), nil)
	c := dial(t, addr)
	c.send(fmt.Sprintf("POST /handler HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(body)))
	half := len(body) / 2
	c.send(string(body[:half]))
	for n := 0; n < half; {
		n += <-reads
	}
	noneLent() // and the exchange goes on
	c.send(string(body[half:]))
	c.until(fmt.Sprintf("digest %x", sha256.Sum256(body)))
}

// TestWhoTakesNothing: an answer of which the client takes no more has ended when it was
// given up, and was cut, also where all of it had come from the cell.
func TestWhoTakesNothing(t *testing.T) {
	t.Parallel()
	const size = 30 << 10 // one read takes it, and the client's socket does not
	eachDriver(t, func(t *testing.T, loops int) {
		up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(make([]byte, size))
		}))}
		t.Cleanup(up.Close)
		ended := make(chan error, 2)
		s := &Server{Direct: lastly{&directly{up: up}, ended}, Loops: loops, Whole: 300 * time.Millisecond, Idle: 300 * time.Millisecond}
		c := narrowly(t, s)
		_, _ = io.WriteString(c, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
		if err := <-ended; err == nil {
			t.Error("an answer that was not taken is said to have been whole")
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		got, _ := io.ReadAll(c)
		if n := bytes.Count(got, []byte("HTTP/1.1 ")); n > 1 || len(got) >= size {
			t.Errorf("got %d answers, %d bytes", n, len(got))
		}
	})
}

// TestALastAnswerIsReadWhole: a client that has sent more than its last request, or does while it
// takes its answer slowly, gets all of it: a close with bytes unread would reset what the kernel still has.
func TestALastAnswerIsReadWhole(t *testing.T) {
	t.Parallel()
	const size = 30 << 10
	up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(make([]byte, size))
	}))}
	t.Cleanup(up.Close)
	eachDriver(t, func(t *testing.T, loops int) {
		ended := make(chan error, 2)
		readsSlowly(t, &Server{Direct: lastly{&directly{up: up}, ended}, Loops: loops}, size)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Run("by the handler", func(t *testing.T) {
		readsSlowly(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, size))
		})}, size)
	})
}

// readsSlowly takes a last answer of size bytes slowly, and sends more meanwhile.
func readsSlowly(t *testing.T, s *Server, size int) {
	t.Helper()
	c := narrowly(t, s)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	from := bufio.NewReaderSize(c, 16)
	if _, err := from.ReadByte(); err != nil { // the answer is on its way, and stuck
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
	got := 1
	for err := error(nil); err == nil; {
		_, err = from.ReadByte()
		if got++; got%4096 == 0 {
			time.Sleep(time.Millisecond) // a client that is slow is the matter of the test
		}
		if err != nil && err != io.EOF { //nolint:errorlint // as ReadByte returns it
			t.Errorf("after %d bytes: %v", got, err)
		}
	}
	if got < size {
		t.Errorf("got %d bytes, want all of %d and a head", got, size)
	}
}

// narrowly serves s until the test ends, and connects to it; neither side's kernel takes much.
func narrowly(t *testing.T, s *Server) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(narrow{ln}) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return err
	}}
	c, err := dialer.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// narrow makes connections whose kernel takes little.
type narrow struct{ net.Listener }

// Accept implements net.Listener.
func (n narrow) Accept() (net.Conn, error) {
	nc, err := n.Listener.Accept()
	if err == nil {
		err = nc.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return nc, err
}

// lastly tells how flights ended.
type lastly struct {
	Direct
	ended chan error
}

// Done implements Direct.
func (l lastly) Done(f *Flight) { l.ended <- f.Err }
