package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
)

// prefix starts the name of every setting's variable.
const prefix = "CELL_"

// Config is what the environment says; see infra/config.
type Config struct {
	ID               directory.CellID `env:"ID,required" help:"name of the cell"`
	Role             string           `env:"ROLE" envDefault:"all" help:"api (HTTP and registration), worker (relay and consumers) or all"`
	ListenAddr       string           `env:"LISTEN_ADDR" envDefault:"127.0.0.1:7100" help:"address of the tenant API"`
	AdminAddr        string           `env:"ADMIN_ADDR" envDefault:"127.0.0.1:7101" help:"address of health, metrics and profiles"`
	Address          string           `env:"ADDRESS" help:"base URL at which routers reach the API; empty is http:// and LISTEN_ADDR, https:// with TLS_IDENTITY_DIR; needed where that listens on all addresses"`
	AdminAddress     string           `env:"ADMIN_ADDRESS" help:"base URL at which movers and other cells reach the admin listener, where it is not that of ADMIN_ADDR; empty is that, on the host of ADDRESS where it listens on all addresses"`
	TLSIdentityDir   string           `env:"TLS_IDENTITY_DIR" help:"tls.crt, tls.key and ca.crt by which routers, movers and other cells know this cell; empty serves without TLS"`
	OwnerDatabaseURL config.Secret    `env:"OWNER_DATABASE_URL" help:"Postgres URL of the owner, used at start to bring the schema up to date and then closed; empty where that is done already"`
	DatabaseURL      config.Secret    `env:"DATABASE_URL,required" help:"Postgres URL of the role that the cell runs as"`
	MoverDatabaseURL config.Secret    `env:"MOVER_DATABASE_URL" help:"Postgres URL of the role that moves tenants; empty turns the transfer endpoint off, and deleted tenants are not purged"`
	MoveBytes        int64            `env:"MOVE_BYTES_PER_SECOND" envDefault:"0" unit:"bytes" help:"what all moves out of and into the cell may send a second, at most; 0 is no bound"`
	MoveRows         int64            `env:"MOVE_ROWS_PER_SECOND" envDefault:"0" unit:"rows" help:"the same in rows, however many travel together; 0 is no bound"`
	MoveLatency      time.Duration    `env:"MOVE_LATENCY" envDefault:"20ms" help:"p99 of the tenants' requests up to which a move does not give way; several moves, as of a drain, do from a quarter of it"`
	RedisURL         config.Secret    `env:"REDIS_URL,required" help:"redis:// URL"`
	DirectoryURL     string           `env:"DIRECTORY_URL" help:"base URL of the directory; needed by the API"`
	DirectoryToken   config.Secret    `env:"DIRECTORY_TOKEN" help:"token of kind cell for the directory, its subject being ID"`
	TokenKeys        config.Secret    `env:"TOKEN_KEYS" help:"this cell's keys of tenants' tokens, from the routers' ones by directory derive-keys --for cell/ID; needed by the API"`
	AssertionKeys    config.Secret    `env:"ASSERTION_KEYS" help:"this cell's keys of the routers' assertions, made alike; needed by the API"`
	ControlKeys      config.Secret    `env:"CONTROL_KEYS" help:"public keys of what movers sign, from their TOKEN_KEYS by directory derive-keys --for public; needed by the API"`
	Locality         string           `env:"LOCALITY" help:"where the cell's data is; empty is nowhere in particular"`
	Tier             string           `env:"TIER" help:"class of the cell; empty is none"`
	Capacity         int              `env:"CAPACITY" envDefault:"1000" unit:"tenants" help:"tenants that the cell is sized for"`
	ConsulAddr       string           `env:"CONSUL_ADDR" help:"host:port of a Consul agent to register with as well; empty is none"`
	RatePerMinute    int              `env:"RATE_PER_MINUTE" envDefault:"60000" unit:"requests" help:"requests of one tenant per minute; 0 is no limit"`
	StopDelay        time.Duration    `env:"STOP_DELAY" envDefault:"0s" help:"between being told to stop and no more connections, for balancers to notice"`
	StopGrace        time.Duration    `env:"STOP_GRACE" envDefault:"15s" help:"time that requests under way get when the process stops"`
	DatabasePool     int32            `env:"DATABASE_POOL" envDefault:"20" unit:"connections" help:"connections to Postgres; two are left to the cell itself, and requests of one tenant have three quarters of the others at most"`

	tokens, assertions, control token.Keys
}

// minPool: the worker keeps two connections for itself.
const minPool = 4

// Validate checks the settings and what they have to do with each other.
func (c *Config) Validate() error {
	switch {
	case c.Role != "all" && c.Role != "api" && c.Role != "worker":
		return errors.New("ROLE must be all, api or worker")
	case c.DatabasePool < minPool:
		return fmt.Errorf("DATABASE_POOL must be at least %d", minPool)
	case c.MoveBytes < 0 || c.MoveRows < 0 || c.MoveLatency <= 0:
		return errors.New("MOVE_BYTES_PER_SECOND and MOVE_ROWS_PER_SECOND must not be negative, MOVE_LATENCY must be positive")
	case c.StopGrace <= 0 || c.StopDelay < 0 || c.RatePerMinute < 0:
		return errors.New("STOP_GRACE must be positive, STOP_DELAY and RATE_PER_MINUTE not negative")
	}
	if c.Address == "" && c.servesAPI() {
		c.Address = c.scheme() + "://" + c.ListenAddr
	}
	if c.Address == "" { // nobody reaches a worker
		c.Address = c.scheme() + "://" + string(c.ID)
	}
	if strings.HasPrefix(c.Address, "https://") != (c.TLSIdentityDir != "") {
		return errors.New("ADDRESS must be https with TLS_IDENTITY_DIR, and only then")
	}
	if u, err := url.Parse(c.Address); c.servesAPI() && (err != nil || directory.Nowhere(u.Hostname())) {
		return fmt.Errorf("ADDRESS is needed, with the host by which routers reach the cell: %s is none", c.Address)
	}
	if u, err := url.Parse(c.AdminAddress); c.AdminAddress != "" && (err != nil || u.Scheme != "http" || directory.Nowhere(u.Hostname())) {
		return errors.New("ADMIN_ADDRESS must be an http URL, with the host by which others reach the admin listener")
	}
	if err := c.cell("").Validate(); err != nil || !c.servesAPI() {
		return err
	}
	return c.validateAPI()
}

func (c *Config) validateAPI() (err error) {
	if c.DirectoryURL == "" {
		return errors.New("DIRECTORY_URL is needed by the API")
	}
	if c.tokens, err = token.ParseKeys(string(c.TokenKeys)); err != nil {
		return fmt.Errorf("TOKEN_KEYS: %w", err)
	}
	if c.assertions, err = token.ParseKeys(string(c.AssertionKeys)); err != nil {
		return fmt.Errorf("ASSERTION_KEYS: %w", err)
	}
	if c.control, err = token.ParsePublic(string(c.ControlKeys)); err != nil {
		return fmt.Errorf("CONTROL_KEYS: %w", err)
	}
	return nil
}

func (c *Config) scheme() string {
	if c.TLSIdentityDir != "" {
		return "https"
	}
	return "http"
}

func (c *Config) servesAPI() bool { return c.Role != "worker" }
func (c *Config) works() bool     { return c.Role != "api" }

// instance names this process in logs and traces.
func (c *Config) instance() string {
	if c.Role == "worker" {
		return string(c.ID) + "-worker"
	}
	return string(c.ID)
}

// cell is what the directory gets to know.
func (c *Config) cell(incarnation string) directory.Cell {
	return directory.Cell{
		ID: c.ID, Address: c.Address, Admin: c.adminURL(), Locality: c.Locality, Tier: c.Tier,
		Capacity: c.Capacity, Incarnation: incarnation,
	}
}

// adminURL is where operators reach the admin listener: on the API's host, where
// it listens on all addresses.
func (c *Config) adminURL() string {
	if c.AdminAddress != "" {
		return c.AdminAddress
	}
	host, port, err := net.SplitHostPort(c.AdminAddr)
	if err != nil {
		return ""
	}
	if directory.Nowhere(host) {
		if u, err := url.Parse(c.Address); err == nil {
			host = u.Hostname()
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}
