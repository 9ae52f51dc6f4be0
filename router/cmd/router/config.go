package main

import (
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
)

const prefix = "ROUTER_"

// settings is the environment of the process, with the prefix.
type settings struct {
	ID              string        `env:"ID" envDefault:"router-1" help:"name of this router at the directory and in logs"`
	ListenAddr      string        `env:"LISTEN_ADDR" envDefault:"127.0.0.1:8080" help:"tenants' listener"`
	TLSListenAddr   string        `env:"TLS_LISTEN_ADDR" help:"tenants' listener with TLS, HTTP/1.1 and HTTP/2; empty is none"`
	TLSHostsDir     string        `env:"TLS_HOSTS_DIR" help:"certificates for tenants' hosts: NAME.crt and NAME.key, default.crt for who asks for no host"`
	TLSIdentityDir  string        `env:"TLS_IDENTITY_DIR" help:"tls.crt, tls.key and ca.crt by which cells know this router; needed for cells with https addresses"`
	H2CListenAddr   string        `env:"H2C_LISTEN_ADDR" help:"listener for HTTP/2 without TLS, which the others refuse; empty is none"`
	AdminAddr       string        `env:"ADMIN_ADDR" envDefault:"127.0.0.1:8081" help:"health, metrics, explain"`
	DirectoryURL    string        `env:"DIRECTORY_URL,required" help:"base URL of the directory"`
	DirectoryToken  config.Secret `env:"DIRECTORY_TOKEN" help:"token of kind router for the directory, its subject being ID, or the beginning of it and *"`
	TokenKeys       config.Secret `env:"TOKEN_KEYS" help:"keys that tenants' tokens are verified with"`
	AssertionKeys   config.Secret `env:"ASSERTION_KEYS,required" help:"keys that assertions to cells are signed with"`
	BaseDomain      string        `env:"BASE_DOMAIN" envDefault:"cellway.localhost" help:"tenants are at SLUG.BASE_DOMAIN"`
	TableFile       string        `env:"TABLE_FILE,required" help:"disk copy of the table"`
	TableMaxTaken   float64       `env:"TABLE_MAX_TAKEN" envDefault:"0.3" unit:"share" help:"share of tenants that one change of the table may take from their cells unasked, if they are over 100; 0 is any"`
	Auth            string        `env:"AUTH" envDefault:"required" help:"required or optional: a tenant's token with each request"`
	CellTimeout     time.Duration `env:"CELL_TIMEOUT" envDefault:"30s" help:"one request to a cell, whole"`
	CellConcurrency int           `env:"CELL_CONCURRENCY" envDefault:"512" unit:"requests" help:"requests to one cell at once"`
	CellLeast       int           `env:"CELL_LEAST_CONCURRENCY" envDefault:"64" unit:"requests" help:"under which the limit of requests to one cell, which adapts to it, does not shrink: those of a tenant that moves wait in the cell for as long as the pause; a cell that was away begins with a sixteenth of CELL_CONCURRENCY"`
	CellStreams     int           `env:"CELL_STREAMS" envDefault:"1024" unit:"streams" help:"event streams of one cell at once, besides requests, and as many requests whose clients are slow"`
	HoldTimeout     time.Duration `env:"HOLD_TIMEOUT" envDefault:"2s" help:"how long requests wait while a tenant's owner changes"`
	HoldRequests    int           `env:"HOLD_REQUESTS" envDefault:"1024" unit:"requests" help:"requests that wait at once"`
	HoldBytes       int64         `env:"HOLD_BYTES" envDefault:"67108864" unit:"bytes" help:"memory of requests that wait"`
	MaxConnections  int           `env:"MAX_CONNECTIONS" envDefault:"0" unit:"connections" help:"tenants' connections at once, the newest are refused; 0 takes it from the limit of open files: half of what is over 128; cells get the other half"`
	MaxBody         int64         `env:"MAX_BODY" envDefault:"8388608" unit:"bytes" help:"a request's body"`
	PolicyFile      string        `env:"POLICY_FILE" help:"YAML file of what the edge refuses; read again when it changes and on SIGHUP"`
	Engine          string        `env:"ENGINE" envDefault:"auto" help:"loop (our own HTTP/1.1 on event loops, Linux only), h1 (the same on goroutines), std (net/http) or auto (loop on Linux, h1 elsewhere)"`
	HandoverSocket  string        `env:"HANDOVER_SOCKET" help:"path of a Unix socket: a router that starts takes the listeners of the one that runs there, which then ends; empty is none"`
	StopDelay       time.Duration `env:"STOP_DELAY" envDefault:"0s" help:"between being told to stop and no more connections, for balancers to notice"`
	RetireTime      time.Duration `env:"RETIRE_TIME" envDefault:"15s" help:"for clients to ask once more on a connection, when another router has taken over"`
	StopGrace       time.Duration `env:"STOP_GRACE" envDefault:"15s" help:"for requests under way when told to stop"`
}

// loops reports whether plain connections are served by event loops.
func (s *settings) loops() bool {
	return s.Engine == "loop" || s.Engine == "auto" && runtime.GOOS == "linux"
}

// Validate checks values and how they relate.
func (s *settings) Validate() error {
	for name, ok := range map[string]bool{
		"AUTH must be required or optional":               s.Auth == "required" || s.Auth == "optional",
		"ENGINE must be auto, loop, h1 or std":            slices.Contains([]string{"auto", "loop", "h1", "std"}, s.Engine),
		"ENGINE loop needs Linux":                         s.Engine != "loop" || runtime.GOOS == "linux",
		"TOKEN_KEYS must be set while AUTH is required":   s.Auth != "required" || s.TokenKeys != "",
		"TABLE_MAX_TAKEN must be from 0 to 1":             s.TableMaxTaken >= 0 && s.TableMaxTaken <= 1,
		"CELL_CONCURRENCY must be positive":               s.CellConcurrency > 0,
		"CELL_LEAST_CONCURRENCY must not be negative":     s.CellLeast >= 0,
		"CELL_STREAMS must be positive":                   s.CellStreams > 0,
		"MAX_CONNECTIONS must not be negative":            s.MaxConnections >= 0,
		"HOLD_REQUESTS must be positive":                  s.HoldRequests > 0,
		"HOLD_BYTES must be positive":                     s.HoldBytes > 0,
		"MAX_BODY must be positive":                       s.MaxBody > 0,
		"HOLD_TIMEOUT must be less than CELL_TIMEOUT":     s.HoldTimeout > 0 && s.HoldTimeout < s.CellTimeout,
		"STOP_DELAY must not be negative":                 s.StopDelay >= 0,
		"RETIRE_TIME must not be negative":                s.RetireTime >= 0,
		"TLS_HOSTS_DIR and TLS_LISTEN_ADDR go together":   (s.TLSHostsDir == "") == (s.TLSListenAddr == ""),
		"STOP_GRACE must not be less than 2*HOLD_TIMEOUT": s.StopGrace >= 2*s.HoldTimeout,
	} {
		if !ok {
			return problem.New(problem.Invalid, "%s%s", prefix, name)
		}
	}
	host, err := identify.CanonicalHost(s.BaseDomain)
	if err != nil || host != s.BaseDomain || host == "" {
		return problem.New(problem.Invalid, "%sBASE_DOMAIN must be a lower-case host name", prefix)
	}
	if u, err := url.Parse(s.DirectoryURL); err != nil || u.Host == "" {
		return problem.New(problem.Invalid, "%sDIRECTORY_URL must be an http or https URL", prefix)
	}
	return nil
}

// options turns the settings into what a Router is made of, but for its parts.
func (s *settings) options() (router.Options, error) {
	var o router.Options
	assertion, err := token.ParseKeys(string(s.AssertionKeys))
	if err != nil {
		return o, fmt.Errorf("%sASSERTION_KEYS: %w", prefix, err)
	}
	var keys token.Keys
	if s.TokenKeys != "" {
		if keys, err = token.ParseKeys(string(s.TokenKeys)); err != nil {
			return o, fmt.Errorf("%sTOKEN_KEYS: %w", prefix, err)
		}
	}
	directory, err := url.Parse(s.DirectoryURL)
	if err != nil {
		return o, fmt.Errorf("%sDIRECTORY_URL: %w", prefix, err)
	}
	return router.Options{
		Chain:         &identify.Chain{BaseDomain: s.BaseDomain, Keys: keys},
		AssertionKeys: assertion, AuthRequired: s.Auth == "required",
		CellTimeout: s.CellTimeout, MaxBody: s.MaxBody, Directory: directory,
		Hold: router.HoldLimits{Time: s.HoldTimeout, Requests: s.HoldRequests, Bytes: s.HoldBytes},
	}, nil
}

// adminSpare is how many descriptors are kept back for operators, otherFiles what
// the process needs besides connections, and cellSpare what of those may go to
// cells: for probes, and for requests whose client has just left.
const (
	adminSpare = 4
	otherFiles = 128
	cellSpare  = 16
)

// connections is how many connections tenants may have at once, and the router to
// cells (0: nothing says): as many as there are files for, one to a cell for each of
// a tenant's. Over HTTP/2 tenants may want more, and are told to wait.
func (s *settings) connections() (tenants, cells int) {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return s.MaxConnections, 0
	}
	const enough = 1 << 24
	most := max(int(min(files.Cur, enough))-otherFiles, 2)
	if tenants = s.MaxConnections; tenants == 0 {
		tenants = most / 2
	}
	return tenants, max(most-tenants, most/2) + cellSpare
}
