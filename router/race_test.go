//go:build race

package router_test

// raced says that the race detector is on, which makes pools forget at random.
const raced = true
