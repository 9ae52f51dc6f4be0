//go:build !linux

package peers

import (
	"errors"
)

var errLinux = errors.New("bench-peers needs Linux: it pins cores and reads the scheduler's account")

func origin(string) error                   { return errLinux }
func relay(string, string) error            { return errLinux }
func generate(loadSpec) (loadResult, error) { return loadResult{}, errLinux }
