package local

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// began is the boot's id and the process's start in ticks since then.
func began(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", os.ErrProcessDone
	}
	// The second field is the name in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, start = 0, 19 // the third and the 22nd field of proc(5)
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", os.ErrProcessDone
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify process %d: %w", pid, err)
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[start], nil
}
