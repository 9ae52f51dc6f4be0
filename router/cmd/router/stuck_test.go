package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestF35NobodyReadsTheLog: the log goes into a pipe that nobody reads. Requests
// are served, lines are dropped and counted, and the router ends when it is told to.
func TestF35NobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"std", "h1", "loop"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			env, s := loaded(t, echo(t).URL, "ROUTER_ENGINE="+engine)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }() // after the router has ended
			cmd := exec.Command(os.Args[0])
			cmd.Env, cmd.Stderr = append([]string{runSelf, raceEnd}, env...), w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
			eventually(t, func() bool { return status("http://"+s.AdminAddr+"/readyz") == http.StatusOK })

			url := "http://" + s.ListenAddr + "/t/acme/" + strings.Repeat("x", 8<<10)
			for n := 0; dropped(t, s.AdminAddr) == 0; n++ {
				if n == 1000 {
					t.Fatal("8 MiB of log are nowhere")
				}
				if got := ask(t, url); got != "200 " {
					t.Fatalf("request %d: got %q", n, got)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("told to stop: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("the router does not end")
			}
		})
	}
}

// TestF35WhoReadsTheLogIsGone: requests are served, and the lines counted.
func TestF35WhoReadsTheLogIsGone(t *testing.T) {
	t.Parallel()
	env, s := loaded(t, echo(t).URL)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append([]string{runSelf, raceEnd}, env...), w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
	eventually(t, func() bool { return status("http://"+s.AdminAddr+"/readyz") == http.StatusOK })
	if got := ask(t, "http://"+s.ListenAddr+"/t/acme/x"); got != "200 " {
		t.Errorf("got %q", got)
	}
	eventually(t, func() bool { return dropped(t, s.AdminAddr) > 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// dropped is how many lines the router says it has dropped.
func dropped(t *testing.T, admin string) float64 {
	t.Helper()
	return metric(t, admin, "log_lines_dropped_total")
}

// metric is the value of the metric with that name and those labels.
func metric(t *testing.T, admin, name string) float64 {
	t.Helper()
	for line := range strings.Lines(metrics(t, admin)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// metrics is the page of that name.
func metrics(t *testing.T, admin string) string {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics") //nolint:noctx // ends with the process that it asks
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
