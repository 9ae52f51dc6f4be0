//go:build !linux

package table

import "os"

// mapFile reads a file: only on Linux it is mapped, where routers run.
func mapFile(path string) ([]byte, error) { return os.ReadFile(path) }

// release leaves what was read to the collector.
func release([]byte, *base) {}

// huge is nil: pages of two megabytes are asked for on Linux only.
func (b *base) huge() *base { return nil }
