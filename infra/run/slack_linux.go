package run

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// slack is by how much the kernel may be late when it wakes a thread of a service that
// sleeps. While a Go program has work, a thread of its runtime (sysmon) sleeps 20 us and
// looks again; with the kernel's default slack of 50 us each service is woken up to
// ten thousand times a second for that, and takes the core from one that works. With a
// millisecond, a tenant's write costs a fifth less processor time (docs/BENCHMARKS.md).
// Timers are late by that much; what waits for the network is woken at once, as ever.
const slack = time.Millisecond

// What PR_SET_TIMERSLACK and PR_GET_TIMERSLACK are called by prctl(2).
const (
	prSetTimerSlack = 29
	prGetTimerSlack = 30
)

// unhurriedEnv tells a process that it was begun again for the slack, so that it does so
// once also where a kernel forgets it.
const unhurriedEnv = "CELLWAY_TIMER_SLACK_SET"

// unhurried gives the process its slack. Threads have it from the one that made them,
// and sysmon is older than main: the program begins again, which keeps slack, process id
// and open files. Where that is not allowed, or it has as much slack already, it goes on
// as it is.
func unhurried() {
	begun := os.Getenv(unhurriedEnv) != ""
	if os.Unsetenv(unhurriedEnv) != nil || begun {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		return
	}
	runtime.LockOSThread() // the slack is the thread's, and so is who calls exec
	defer runtime.UnlockOSThread()
	if has, ok := timerSlack(); !ok || has >= slack {
		return
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(slack), 0); errno != 0 {
		return
	}
	var files syscall.Rlimit
	limited := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	_ = syscall.Exec(exe, os.Args, append(os.Environ(), unhurriedEnv+"=1")) // comes back only where it may not
	if limited == nil {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files) // Exec has given back the limit that Go raises at the start
	}
}

// timerSlack is that of the calling thread.
func timerSlack() (d time.Duration, ok bool) {
	has, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	return time.Duration(has), errno == 0 //nolint:gosec // nanoseconds that were set as such
}
