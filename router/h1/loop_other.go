//go:build !linux

package h1

import "net"

// A loop drives connections on Linux only.
type loop struct{}

type airborne struct{}

func (*loop) post(func()) bool { return false }
func (*loop) stop()            {}
func (*loop) close(*conn)      {}
func (*loop) kill(*conn)       {}

func (*Server) startLoops() error { return nil }

func (*Server) adopt(net.Conn) bool { return false }

// naps are for Linux only, too.
type naps struct{}

const canNap = false

func (*naps) rouse(*conn) {}
func (*naps) stop()       {}

func (c *conn) leave() { c.end() }
