package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

// interrupted TEXT COMMAND... runs a command of the script's directory, and interrupts it as Ctrl-C does
// when it has said TEXT on the side. It must end with what stands for that.
func interrupted(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(scriptKey{}).(script)
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(os.PathListSeparator))
	cmd := exec.CommandContext(s.tb.Context(), filepath.Join(bin, args[1]), args[2:]...)
	cmd.Env, cmd.Stdout = os.Environ(), ts.Stdout()
	for _, name := range []string{"HOME", "GORACE", "CELLCTL_ADDR", "CELLCTL_TOKEN"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines, sent := bufio.NewScanner(said), false
	for lines.Scan() {
		fmt.Fprintln(ts.Stderr(), lines.Text())
		if !sent && strings.Contains(lines.Text(), args[0]) {
			sent = true
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); !sent || code != exitInterrupted {
		ts.Fatalf("said %q: %v; exit code %d, want %d", args[0], sent, code, exitInterrupted)
	}
}

// lapses CELL lets a cell that was never heard of have been heard of an hour ago. It is the one that is called
// silent: beat lets every other one be heard of again.
func lapses(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(scriptKey{}).(script)
	conn, err := pgx.Connect(s.tb.Context(), s.db)
	ts.Check(err)
	_, err = conn.Exec(s.tb.Context(), `
		INSERT INTO directory.heartbeats (cell, address, incarnation, seen_at)
		SELECT id, address, incarnation, now() - interval '1 hour' FROM directory.cells WHERE id = $1`, args[0])
	ts.Check(err)
	ts.Check(conn.Close(s.tb.Context()))
}
