// Command cellctl is the operators' tool: it shows and changes what the
// directory records and asks a router why it sends a request where it does.
//
// What it prints to standard output is the answer and nothing else; notes,
// questions and errors go to standard error. Its exit codes are part of its
// contract (see exit.go).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// main exits itself, and not through run.Main, because callers of cellctl act
// on more exit codes than 0 and 1.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, now: time.Now}
	os.Exit(a.main(ctx, os.Args[1:]))
}
