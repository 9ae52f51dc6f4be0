package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// repeater is a cell that says each frame of a WebSocket again, without its mask.
func repeater(t *testing.T) *httptest.Server {
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for err = rw.Flush(); err == nil; {
			var head [6]byte // of a frame of up to 125 bytes, with a mask of zeros
			if _, err = io.ReadFull(rw, head[:]); err != nil {
				return
			}
			payload := make([]byte, head[1]&0x7f)
			_, _ = io.ReadFull(rw, payload)
			_, err = c.Write(append([]byte{head[0], head[1] & 0x7f}, payload...))
		}
	}))
	t.Cleanup(cell.Close)
	return cell
}

// A socket is a client's WebSocket.
type socket struct {
	net.Conn
	from *bufio.Reader
}

func openSocket(t *testing.T, addr string, secure *tls.Config) *socket {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		c = tls.Client(c, secure)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = fmt.Fprintf(c, "GET /t/acme/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n")
	s := &socket{c, bufio.NewReader(c)}
	resp, err := http.ReadResponse(s.from, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	return s
}

// frame sends a frame of a client's.
func (s *socket) frame(head byte, payload []byte) {
	_, _ = s.Write(append([]byte{head, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)) // reading reports it
}

// read reads a frame.
func (s *socket) read() (head byte, payload []byte, err error) {
	var b [2]byte
	if _, err = io.ReadFull(s.from, b[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, b[1])
	_, err = io.ReadFull(s.from, payload)
	return b[0], payload, err
}

// echoes reports whether the cell says a line again.
func (s *socket) echoes(line string) bool {
	s.frame(0x81, []byte(line))
	head, got, err := s.read()
	return head == 0x81 && bytes.Equal(got, []byte(line)) && err == nil
}

// ending is what the socket's last frame says, and how the connection ends when its client
// has said goodbye, too.
func (s *socket) ending() (code int, err error) {
	head, payload, err := s.read()
	if err != nil || head != 0x88 || len(payload) < 2 {
		return 0, fmt.Errorf("got a frame %x of %q: %w", head, payload, err)
	}
	s.frame(0x88, payload[:2])
	if _, err = s.from.ReadByte(); err == io.EOF { //nolint:errorlint // as bufio returns it
		err = nil
	}
	return int(binary.BigEndian.Uint16(payload)), err
}

// TestSocketsOfARouterThatGoes are told so, each with a whole frame and in time to say goodbye,
// whether it is replaced or just stops; who comes back gets to the next one.
func TestSocketsOfARouterThatGoes(t *testing.T) {
	hosts, ca := hostsDir(t)
	for _, engine := range []string{"std", "h1", "loop"} {
		for _, how := range []string{"replaced", "stopped"} {
			t.Run(engine+", "+how, func(t *testing.T) {
				t.Parallel()
				env, s := loaded(t, repeater(t).URL, "ROUTER_HANDOVER_SOCKET="+filepath.Join(t.TempDir(), "s"), "ROUTER_ENGINE="+engine,
					"ROUTER_STOP_DELAY=0s", "ROUTER_TLS_LISTEN_ADDR="+freeAddr(t), "ROUTER_TLS_HOSTS_DIR="+hosts)
				old := launch(t, env)
				old.awaitLog("router serves")
				secure := &tls.Config{RootCAs: ca, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}}
				var all []*socket
				for range 20 {
					all = append(all, openSocket(t, s.ListenAddr, nil), openSocket(t, s.TLSListenAddr, secure))
				}
				for _, one := range all {
					if !one.echoes("before") {
						t.Fatal("no echo")
					}
				}
				if how == "stopped" {
					if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				} else {
					launch(t, env).awaitLog("router serves")
				}
				for n, one := range all {
					if code, err := one.ending(); code != 1001 || err != nil {
						t.Errorf("socket %d: ended with %d, %v", n, code, err)
					}
				}
				if err := old.exit(); err != nil {
					t.Errorf("the router ended with %v\n%s", err, old.logged())
				}
				if how == "replaced" && (!openSocket(t, s.ListenAddr, nil).echoes("after") || !openSocket(t, s.TLSListenAddr, secure).echoes("after")) {
					t.Error("no echo by the next router")
				}
			})
		}
	}
}
