package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// An app is one run of cellctl: where it reads and writes, and what its global
// flags say.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time

	flags struct {
		addr, token, router, context string
		output                       string
		columns                      []string
		noHeaders, noColor           bool
		timeout                      time.Duration
	}
	requestID atomic.Pointer[string] // of the last request that failed
	changes   atomic.Bool            // whether something was asked for that is no question
}

// main runs the command that args name and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	out := &answer{Writer: a.out}
	a.out = out
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("write the answer: %w", out.err) // whatever was asked for is done
	}
	code := exitCode(ctx, err)
	if err != nil {
		a.report(err, code)
	}
	return code
}

// An answer is where a command's answer goes. It keeps the first error of writing it.
type answer struct {
	io.Writer
	err error
}

// Write implements io.Writer.
func (w *answer) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

const (
	red = "\x1b[31m"
	dim = "\x1b[2m"
)

// paint colours what goes to standard error, if that is a terminal and nobody
// objects (--no-color, NO_COLOR); CLICOLOR_FORCE colours in any case.
func (a *app) paint(colour, s string) string {
	force := a.getenv("CLICOLOR_FORCE") != "" && a.getenv("CLICOLOR_FORCE") != "0"
	switch {
	case a.flags.noColor || a.getenv("NO_COLOR") != "":
		return s
	case force || isTerminal(a.err):
		return colour + s + "\x1b[0m"
	}
	return s
}

// isTerminal reports whether a person is at the other end of f.
func isTerminal(f any) bool {
	if w, ok := f.(*answer); ok {
		f = w.Writer
	}
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
