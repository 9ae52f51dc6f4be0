//go:build !linux

package peers

import (
	"errors"
	"time"
)

var errLinux = errors.New("bench-peers needs Linux: it pins cores and reads the scheduler's account")

func origin(string) error                   { return errLinux }
func generate(loadSpec) (loadResult, error) { return loadResult{}, errLinux }
func cpuOf(int) (time.Duration, error)      { return 0, errLinux }
func memoryOf(int) (int64, error)           { return 0, errLinux }
func family(pid int) []int                  { return []int{pid} }
