//go:build !linux

package bench

import (
	"errors"
	"time"
)

func processorTime(int) (time.Duration, error) {
	return 0, errors.New("this needs Linux: it reads /proc")
}
