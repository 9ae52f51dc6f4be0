//go:build !linux

package handover

import "net"

// quiet listens as net does.
var quiet net.ListenConfig
