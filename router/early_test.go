package router_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// TestEarlyBytesReachTheCell: what a client sends right behind the head that asks for a
// WebSocket is the first of what its cell hears, and nothing is missing between.
func TestEarlyBytesReachTheCell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(webSocket)}, nil)
	for _, size := range []int{1, 100, 3000, 60000} { // in what a server has read, and more
		c, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		line := strings.Repeat("x", size)
		_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n%s", acme, frame(saysText, []byte(line), true))
		if err != nil {
			t.Fatal(err)
		}
		from := bufio.NewReader(c)
		if resp, err := http.ReadResponse(from, nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("got %v, %v", resp, err)
		}
		s := &socket{t, c, from, nil}
		if says, got, _, err := readFrame(from); says != saysText || string(got) != line || err != nil {
			t.Errorf("%d bytes: the cell heard %d %.40q, %v", size, says, got, err)
			continue
		}
		s.echoes("later")
	}
}
