// Package run starts and stops a process: signals, exit code, groups of
// goroutines that have an owner and an end, and the admin listener.
package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Service is Main for a process that serves for long, beside others: on Linux it first
// begins itself again with timers that may be a millisecond late (slack).
func Service(name string, f func(ctx context.Context) error) {
	unhurried()
	Main(name, f)
}

// Main runs f until it returns or the process is told to stop. It is the only
// place that reads signals and the only one that exits. A second signal kills.
// What a stop cancelled is no failure; the same error without a stop is one. Who
// read the output and is gone ends nothing: writing fails, and that is all.
func Main(name string, f func(ctx context.Context) error) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // not ignored: what this process starts would ignore it, too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := f(ctx)
	told := ctx.Err() != nil
	stop()
	if err != nil && (!told || !errors.Is(err, context.Canceled)) {
		lastWords(name, err)
		code := 1
		if exit, ok := errors.AsType[*Exit](err); ok {
			code = exit.Code
		}
		os.Exit(code)
	}
}

// lastWords says why the process ends, to who reads it: a pipe that is full must
// not keep it.
func lastWords(name string, err error) {
	said := make(chan struct{})
	go func() { // ends with the process
		defer close(said)
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}()
	select {
	case <-said:
	case <-time.After(2 * time.Second):
	}
}

// An Exit is an error with which Main ends the process by a code other than 1.
type Exit struct {
	Code int
	Err  error
}

// Error is that of Err.
func (e *Exit) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e *Exit) Unwrap() error { return e.Err }

// Serve serves h on ln until ctx ends, then stops listening and lets requests
// under way finish for at most grace. It returns nil after an orderly stop.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, grace time.Duration) error {
	return ServeWith(ctx, ln, &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}, grace)
}

// A Server is what ServeWith runs, such as *http.Server, after which its methods
// are made.
type Server interface {
	Serve(ln net.Listener) error // http.ErrServerClosed after the others
	Shutdown(ctx context.Context) error
	Close() error
}

// ServeWith is Serve with a server of the caller's making.
func ServeWith(ctx context.Context, ln net.Listener, srv Server, grace time.Duration) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		// ctx has ended: the requests under way still deserve their time.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := srv.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return <-stopped
}
