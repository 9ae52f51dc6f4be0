package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
)

// Ports are taken from below those that kernels give to outgoing connections,
// so that a server that is started again finds its port free.
const (
	lowestPort  = 17000
	highestPort = 31999
)

// FreePort is a TCP port on the loopback interface that nobody listens on now, and that no
// other process of ours is given as long as this one lives (on Linux): between the choice
// and the server's start another stack would else take it now and then. Others may still;
// who starts a server on it tries again.
func FreePort() (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1) //nolint:gosec // not a secret
		if PortFree(port) && reserve(port) {
			return port, nil
		}
	}
	return 0, errors.New("find a free port: a thousand are taken")
}

var reserved struct {
	mu   sync.Mutex
	held []net.Listener // until the process ends; one that is collected would be closed
}

// reserve makes the port this process's, by a name in the kernel that goes with it.
func reserve(port int) bool {
	if runtime.GOOS != "linux" {
		return true
	}
	ln, err := net.Listen("unix", fmt.Sprintf("@cellway-port-%d", port))
	if err != nil {
		return false
	}
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.held = append(reserved.held, ln)
	return true
}

// PortFree reports whether a listener could have the port now.
func PortFree(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// PortTaken reports whether the end of a server's log says that its port was
// in use: a reason to try another one.
func PortTaken(log string) bool {
	return strings.Contains(strings.ToLower(Tail(log, 40)), "address already in use")
}
