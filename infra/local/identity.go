package local

import (
	"errors"
	"os"
	"syscall"
)

// An Identity names one process for good: ids come round again, so the time at
// which it began belongs to it.
type Identity struct {
	PID   int    `json:"pid"`
	Began string `json:"began"` // opaque; unequal for two processes with one id
}

// Identify is the identity of the process that has pid now.
func Identify(pid int) (Identity, error) {
	began, err := began(pid)
	return Identity{pid, began}, err
}

// Alive reports whether this very process still runs.
func (id Identity) Alive() bool {
	now, err := began(id.PID)
	return err == nil && id.Began != "" && now == id.Began
}

// Signal sends sig to this very process and to no other that has its id now.
func (id Identity) Signal(sig syscall.Signal) error {
	if !id.Alive() {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(id.PID, sig); errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return err
	}
	return nil
}
