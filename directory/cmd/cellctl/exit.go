package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/problem"
)

// The exit codes: scripts act on them, so none ever changes its meaning.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line or the input is wrong
	exitNotFound    = 3
	exitConflict    = 4 // another change was first, a name is taken, the state does not allow it
	exitRefused     = 5 // no valid token, not allowed, over a limit
	exitTimeout     = 6 // no answer in time: it may still be carried out
	exitUnreachable = 7
	exitInterrupted = 130
)

// exitHelp is what `cellctl --help` says about them.
const exitHelp = `0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 refused,
6 timed out, 7 unreachable, 130 interrupted.`

var codes = map[problem.Kind]int{
	problem.Invalid: exitUsage, problem.TooLarge: exitUsage,
	problem.NotFound: exitNotFound, problem.TenantNotFound: exitNotFound, problem.Gone: exitNotFound,
	problem.Conflict: exitConflict, problem.PreconditionFailed: exitConflict,
	problem.Stale: exitConflict, problem.KeyReused: exitConflict,
	problem.Unauthenticated: exitRefused, problem.Forbidden: exitRefused,
	problem.TenantSuspended: exitRefused, problem.RateLimited: exitRefused,
	problem.Timeout:     exitTimeout,
	problem.Unavailable: exitUnreachable, problem.BadGateway: exitUnreachable,
	problem.CellUnavailable: exitUnreachable,
}

// hints say what usually helps, where the command itself knows nothing better.
var hints = map[int]string{
	exitRefused:     "check --token, CELLCTL_TOKEN or the token of the context (cellctl config view)",
	exitTimeout:     "it may still be carried out: look before you repeat it, or give it more --timeout",
	exitUnreachable: "is it running there? the address comes from --addr and --router, CELLCTL_ADDR and CELLCTL_ROUTER or the context",
}

// A hinted error knows what its reader can do about it.
type hinted struct {
	error
	hint string
}

// Unwrap is the error itself.
func (h hinted) Unwrap() error { return h.error }

// withHint adds a hint to err where its kind is the one given.
func withHint(err error, kind problem.Kind, format string, args ...any) error {
	if !errors.Is(err, kind) {
		return err
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// usage is an error of the command line.
func usage(hint, format string, args ...any) error {
	return hinted{problem.New(problem.Invalid, format, args...), hint}
}

// flagOf names the flags that are called otherwise than what the directory is asked for.
var flagOf = map[string]string{"name": "title", "hosts": "host"}

// inFlags is err in the words of who typed cmd, where the directory refuses what a flag said.
func inFlags(cmd *cobra.Command, err error) error {
	e, ok := errors.AsType[*problem.Error](err)
	if _, hints := errors.AsType[hinted](err); !ok || hints || e.Kind != problem.Invalid || len(e.Fields) == 0 {
		return err
	}
	member, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(e.Fields[0].Pointer, "query"), "/"), "/")
	for _, name := range []string{flagOf[member], strings.ReplaceAll(member, "_", "-")} {
		if cmd.Flags().Lookup(name) != nil {
			return problem.New(problem.Invalid, "--%s: %s", name, strings.TrimSuffix(e.Fields[0].Detail, ", in nanoseconds"))
		}
	}
	return err
}

// exitCode is what the process ends with for err.
func exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	if code, ok := codes[problem.KindOf(err)]; ok {
		return code
	}
	return exitFailed
}

// report writes err for a person: one line, and one more with what may help.
func (a *app) report(err error, code int) {
	text := err.Error()
	// An error of this side names its cause: one that came by wire has none.
	if e, ok := errors.AsType[*problem.Error](err); ok && e.Kind == problem.Unavailable && e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if code == exitInterrupted {
		text = "interrupted"
	}
	if id := a.requestID.Load(); id != nil {
		text += " (request " + *id + ")"
	}
	fmt.Fprintln(a.err, a.paint(red, "error:"), oneLine(text))
	hint := hints[code]
	switch e, _ := errors.AsType[*problem.Error](err); {
	case code == exitTimeout && !a.changes.Load():
		hint = "give it more --timeout"
	case e != nil && e.Kind == problem.RateLimited: // the token is good
		hint = "try again later"
		if e.RetryAfter > 0 {
			hint = "try again in " + e.RetryAfter.String()
		}
	}
	if h, ok := errors.AsType[hinted](err); ok {
		hint = h.hint
	}
	if hint != "" {
		fmt.Fprintln(a.err, a.paint(dim, "hint: "+oneLine(hint)))
	}
}

// note tells a person something that is not the answer.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, a.paint(dim, printable(fmt.Sprintf("note: "+format, args...))))
}

// oneLine is a text that came from elsewhere, as it can be shown.
func oneLine(s string) string { return printable(strings.Join(strings.Fields(s), " ")) }

// printable leaves nothing in s that a terminal obeys: some of what is shown a cell has said, or
// who has signed up. What turns the direction of text would show a line otherwise than it is.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, s)
}
