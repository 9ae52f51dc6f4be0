package loadtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Family is a process with all that it started.
func Family(pid int) []int {
	all := []int{pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range children {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended meanwhile
		}
		for field := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, Family(child)...)
			}
		}
	}
	return all
}

// ProcessorTime is the processor time that a process and its children used, of the
// scheduler's own account in nanoseconds: the ticks of /proc/PID/stat are too
// coarse for a run of a second.
func ProcessorTime(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, p := range Family(pid) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p))
		for _, file := range threads {
			b, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the thread ended meanwhile
			}
			ns, _, _ := strings.Cut(string(b), " ")
			n, err := strconv.ParseInt(ns, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", file, err)
			}
			sum += time.Duration(n)
		}
	}
	if sum == 0 {
		return 0, fmt.Errorf("no processor time of process %d: it ended, or the kernel has no schedstat", pid)
	}
	return sum, nil
}

// MemoryOf is what a process and its children hold of the machine's memory, in
// bytes; what they share counts once.
func MemoryOf(pid int) (int64, error) {
	var sum int64
	for _, p := range Family(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return 0, fmt.Errorf("read memory: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			var kb int64
			if _, err := fmt.Sscanf(line, "Pss: %d kB", &kb); err == nil {
				sum += kb << 10
			}
		}
	}
	return sum, nil
}
