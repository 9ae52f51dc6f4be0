package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cellway/cellway/infra/local"
)

// State is what a running stack is made of. It holds secrets: its file can be
// read by its owner only.
type State struct {
	Dir           string         `json:"dir"`
	Owner         local.Identity `json:"owner"`               // the process that started it
	Authority     string         `json:"authority,omitempty"` // file of the certificate that vouches for the endpoint; "" without TLS
	Endpoint      string         `json:"endpoint"`            // the first router's URL: where tenants go
	OperatorToken string         `json:"operator_token"`
	TokenKeys     string         `json:"token_keys"`     // the routers'
	AssertionKeys string         `json:"assertion_keys"` // the routers'
	Directory     Directory      `json:"directory"`
	Routers       []Router       `json:"routers"`
	Movers        []Mover        `json:"movers"`
	Cells         []Cell         `json:"cells"`
	Processes     []Process      `json:"processes"` // those that run, in the order of their start
}

// Directory says where the directory is.
type Directory struct {
	URL         string `json:"url"`
	Admin       string `json:"admin"` // base URL of the admin listener
	DatabaseURL string `json:"database_url"`
}

// Router says where one router is.
type Router struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	Plain string `json:"plain,omitempty"` // with TLS: the listener without, which the URL is not
	Admin string `json:"admin"`
	Token string `json:"token"` // for the directory
}

// Mover says where one mover is; it has an admin listener only.
type Mover struct {
	ID    string `json:"id"`
	Admin string `json:"admin"`
}

// Cell says where one cell and its servers are.
type Cell struct {
	ID               string `json:"id"`
	URL              string `json:"url"`
	Admin            string `json:"admin"`
	WorkerAdmin      string `json:"worker_admin"`
	DatabaseURL      string `json:"database_url"`       // the superuser's
	AppDatabaseURL   string `json:"app_database_url"`   // of the role that the cell runs as
	MoverDatabaseURL string `json:"mover_database_url"` // of the role of its transfer endpoint
	RedisURL         string `json:"redis_url"`
}

// Process is one running child: its name ("directory-postgres", "directory",
// "router-1", "mover-1", "c1-postgres", "c1-redis", "c1", "c1-worker") and its log file.
type Process struct {
	Name string `json:"name"`
	local.Identity
	Log string `json:"log"`
}

// RouterURLs is where the global endpoint can be reached, once for each router.
func (st State) RouterURLs() []string {
	urls := make([]string, len(st.Routers))
	for i, r := range st.Routers {
		urls[i] = r.URL
	}
	return urls
}

func (st State) clone() State {
	st.Routers = slices.Clone(st.Routers)
	st.Movers = slices.Clone(st.Movers)
	st.Cells = slices.Clone(st.Cells)
	st.Processes = slices.Clone(st.Processes)
	return st
}

// ErrNotRunning says that no stack runs in a directory.
var ErrNotRunning = errors.New("no stack is running")

func statePath(dir string) string { return filepath.Join(dir, "stack.json") }

// Load reads the state of the stack in dir; ErrNotRunning where there is none.
func Load(dir string) (State, error) {
	var st State
	err := readJSON(statePath(dir), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return st, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	return st, err
}

// save writes the state; s.mu is held.
func (s *Stack) save() error { return writeJSON(statePath(s.opts.Dir), s.state) }

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read state: %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file in one step, so that a reader never sees half of it.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
