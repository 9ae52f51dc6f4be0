package h1

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestSlowHeadsCostLittle: who has sent a part of a head has no buffers in a loop, and none to
// write with anywhere. The rest is served when it comes.
func TestSlowHeadsCostLittle(t *testing.T) {
	const many = 2000
	for name, tt := range map[string]struct {
		loops int
		most  uint64 // bytes of heap for a connection, the client's end too
	}{"loops": {2, 8 << 10}, "goroutines": {0, inBytes + 8<<10}} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Loops: tt.loops, Direct: &directly{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })}
			addr := serve(t, s)
			heap := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			before := heap()
			clients := make([]net.Conn, many)
			for i := range clients {
				c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err = io.WriteString(c, "G"); err != nil {
					t.Fatal(err)
				}
				clients[i] = c
			}
			eventually(t, "all have sent a byte, and cost little", func() bool {
				s.mu.Lock()
				asking := 0
				for c := range s.conns {
					if c.state.Load() == active {
						asking++
					}
				}
				s.mu.Unlock()
				return asking == many && heap() <= before+many*tt.most
			})
			for _, rest := range []string{"ET /hand", "ler HTTP/1.1\r\n", "Host: a\r\nConnection: close\r\n\r\n"} {
				_, _ = io.WriteString(clients[0], rest)
				time.Sleep(time.Millisecond) // so that they come apart; together they are served as well
			}
			if got, err := io.ReadAll(clients[0]); err != nil || !strings.HasSuffix(string(got), "/handler") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
