package main

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestOneProcessIsAWholeCell(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.start("all")
	c := <-s.directory.cells
	if c.ID != "c1" || c.Address != fmt.Sprintf("http://127.0.0.1:%d", s.api) || c.Admin != p.admin || c.Incarnation == "" || c.Capacity != 1000 {
		t.Errorf("registered: got %+v", c)
	}
	if got := <-s.directory.beats; got != "c1" {
		t.Errorf("heartbeat of %q", got)
	}
	for i := range 3 {
		if status, body := s.call("POST", "/t/x/v1/projects", fmt.Sprintf(`{"name":"p%d"}`, i)); status != 201 {
			t.Fatalf("create: got %d %s", status, body)
		}
	}
	eventually(t, "consumed", func() bool { return s.activities() == 3 }, &p.log)
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Errorf("exit: %v\n%s", err, p.log.String())
	}
	for line := range strings.Lines(p.log.String()) {
		if !strings.HasPrefix(line, `{"time":`) || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("log: %s", line)
		}
	}
}

// TestACellThatStopsServesUntilBalancersKnow: it is not ready at once, and serves on.
func TestACellThatStopsServesUntilBalancersKnow(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.start("api", "CELL_STOP_DELAY=1h")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { return get(p.admin+"/readyz") == 503 }, &p.log)
	if status, body := s.call("POST", "/v1/projects", `{"name":"Moon"}`); status != 201 {
		t.Errorf("create: got %d %s", status, body)
	}
	_ = p.stop(syscall.SIGKILL)
}

func TestTheCellServesWithADeadDirectory(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.directory.Close()
	api := s.start("api")
	if status, body := s.call("POST", "/v1/projects", `{"name":"Moon"}`); status != 201 {
		t.Fatalf("create: got %d %s", status, body)
	}
	eventually(t, "warned", func() bool { return strings.Contains(api.log.String(), "directory does not know") }, &api.log)
	if err := api.stop(syscall.SIGTERM); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestAKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	api, worker := s.start("api"), s.start("worker")
	for i := range 20 {
		if status, body := s.call("POST", "/v1/projects", fmt.Sprintf(`{"name":"p%d"}`, i)); status != 201 {
			t.Fatalf("create: got %d %s", status, body)
		}
		switch i {
		case 5:
			_ = worker.stop(syscall.SIGKILL)
		case 10:
			_ = api.stop(syscall.SIGKILL)
			api = s.start("api")
		}
	}
	worker = s.start("worker", "CELL_OWNER_DATABASE_URL=") // prepared already
	eventually(t, "consumed", func() bool { return s.activities() == 20 }, &worker.log)
	for _, p := range []*cellProcess{api, worker} {
		if err := p.stop(syscall.SIGTERM); err != nil {
			t.Errorf("exit: %v\n%s", err, p.log.String())
		}
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	base := []string{
		"CELL_ID=c1", "CELL_DATABASE_URL=postgres://app:hidden@h/db", "CELL_REDIS_URL=redis://:hidden@h",
	}
	for _, tt := range []struct{ set, want string }{
		{"CELL_ROLE=boss", "ROLE must be"},
		{"CELL_ROLE=api", "DIRECTORY_URL is needed"},
		{"CELL_REDIS_ULR=x", "did you mean CELL_REDIS_URL?"},
		{"CELL_DATABASE_POOL=1", "DATABASE_POOL must be"},
		{"CELL_ID=C1", "cell: id must match"},
		{"CELL_CAPACITY=0", "capacity must be"},
		{"CELL_LISTEN_ADDR=0.0.0.0:7100", "ADDRESS is needed"},
		{"CELL_LISTEN_ADDR=:7100", "ADDRESS is needed"},
		{"CELL_ADDRESS=http://[::]:7100", "ADDRESS is needed"},
		{"CELL_ADMIN_ADDRESS=http://:7101", "ADMIN_ADDRESS must be"},
		{"CELL_ADMIN_ADDRESS=c1:7101", "ADMIN_ADDRESS must be"},
	} {
		err := command(t.Context(), nil, append(base, tt.set), &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.set, err, tt.want)
		}
	}
	var out bytes.Buffer
	if err := command(t.Context(), []string{"--print-config"}, append(base, "CELL_ROLE=worker", "CELL_LISTEN_ADDR=0.0.0.0:7100"), &out, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "CELL_DATABASE_URL=********") {
		t.Errorf("configuration:\n%s", got)
	}
	if err := command(t.Context(), []string{"extra"}, base, &out, &out); err == nil {
		t.Error("an argument was accepted")
	}
}

func TestTheAdminAddressIsOneThatOthersReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ admin, want string }{
		{"0.0.0.0:7101", "http://c1:7101"},
		{":7101", "http://c1:7101"},
		{"[::]:7101", "http://c1:7101"},
		{"127.0.0.1:7101", "http://127.0.0.1:7101"},
	} {
		c := Config{AdminAddr: tt.admin, Address: "http://c1:7100"}
		if got := c.adminURL(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.admin, got, tt.want)
		}
	}
	c := Config{AdminAddr: "127.0.0.1:7101", AdminAddress: "http://c1.example:9101", Address: "http://c1:7100"}
	if got := c.adminURL(); got != c.AdminAddress {
		t.Errorf("said otherwise: got %s, want %s", got, c.AdminAddress)
	}
}
