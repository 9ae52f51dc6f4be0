//go:build !linux

package loadtest

import (
	"errors"
	"time"
)

var errProcesses = errors.New("this needs Linux: it reads /proc")

// Family is a process with all that it started; here the process alone.
func Family(pid int) []int { return []int{pid} }

// ProcessorTime needs Linux.
func ProcessorTime(int) (time.Duration, error) { return 0, errProcesses }

// MemoryOf needs Linux.
func MemoryOf(int) (int64, error) { return 0, errProcesses }
