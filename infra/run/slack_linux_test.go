package run

import (
	"context"
	"fmt"
	"os"
	"testing"
)

func aService(context.Context) error {
	has, ok := timerSlack()
	fmt.Printf("%d %v %v %q %q\n", os.Getpid(), has, ok, os.Args[1:], []string{os.Getenv("RUN_TEST"), os.Getenv(unhurriedEnv)})
	return nil
}

// TestAServiceHasItsSlack, and is the same process with the same arguments and
// environment.
func TestAServiceHasItsSlack(t *testing.T) {
	t.Parallel()
	cmd, out, stderr := command(t, "service")
	expect(t, out, fmt.Sprintf("%d %v %v %q %q", cmd.Process.Pid, slack, true, []string{}, []string{"service", ""}))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
}
