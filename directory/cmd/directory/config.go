package main

import (
	"errors"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
)

// prefix starts the name of every setting's variable.
const prefix = "DIRECTORY_"

// Config is what the environment says; see infra/config.
type Config struct {
	DatabaseURL      config.Secret `env:"DATABASE_URL,required" help:"Postgres URL of the record; its owner, as the schema is brought up to date at start"`
	ListenAddr       string        `env:"LISTEN_ADDR" envDefault:"127.0.0.1:7000" help:"address of the API"`
	AdminAddr        string        `env:"ADMIN_ADDR" envDefault:"127.0.0.1:7001" help:"address of health, metrics and profiles"`
	Instance         string        `env:"INSTANCE" envDefault:"directory-1" help:"name of this process in logs, traces and leases"`
	TokenKeys        config.Secret `env:"TOKEN_KEYS,required" help:"keys of tokens, id:base64,...; the first one signs"`
	Signup           string        `env:"SIGNUP" envDefault:"open" help:"POST /signup: open or closed"`
	SignupsPerMinute int           `env:"SIGNUPS_PER_MINUTE" envDefault:"600" unit:"sign-ups" help:"sign-ups from one address per minute"`
	TenantsPerMinute int           `env:"TENANTS_PER_MINUTE" envDefault:"6000" unit:"tenants" help:"tenants that one caller creates per minute; all who sign up are one caller"`
	MaxTenants       int           `env:"MAX_TENANTS" envDefault:"10000000" unit:"tenants" help:"tenants in all, deleted ones apart"`
	MaxPerCaller     int           `env:"MAX_TENANTS_PER_CALLER" envDefault:"1000000" unit:"tenants" help:"of those, created by one caller"`
	DeletionGrace    time.Duration `env:"DELETION_GRACE" envDefault:"168h" help:"how long cells keep what they have of a deleted tenant, counted from its deletion"`
	TokenTTL         time.Duration `env:"TOKEN_TTL" envDefault:"720h" help:"lifetime of the token that a sign-up gets"`
	DatabasePool     int32         `env:"DATABASE_POOL" envDefault:"20" unit:"connections" help:"connections to Postgres"`
	KeepVersions     int64         `env:"KEEP_VERSIONS" envDefault:"50000" unit:"versions" help:"versions that a router may be behind before it needs a snapshot; more than 50000 count as so many"`
	AuditKeep        time.Duration `env:"AUDIT_KEEP" envDefault:"9600h" help:"how long audit lines are kept"`
	ConsulAddr       string        `env:"CONSUL_ADDR" help:"host:port of a Consul agent: cells' health and the lease come from there; empty is Postgres"`
	StopGrace        time.Duration `env:"STOP_GRACE" envDefault:"10s" help:"time that requests under way get when the process stops"`

	keys token.Keys
}

// Validate checks the settings and what they have to do with each other.
func (c *Config) Validate() error {
	var err error
	if c.keys, err = token.ParseKeys(string(c.TokenKeys)); err != nil {
		return err
	}
	switch {
	case c.Signup != "open" && c.Signup != "closed":
		return errors.New("SIGNUP must be open or closed")
	case c.SignupsPerMinute < 1 || c.DatabasePool < 2 || c.KeepVersions < 1:
		return errors.New("SIGNUPS_PER_MINUTE and KEEP_VERSIONS must be at least 1, DATABASE_POOL 2")
	case c.TenantsPerMinute < 1 || c.MaxTenants < 1 || c.MaxPerCaller < 1:
		return errors.New("TENANTS_PER_MINUTE, MAX_TENANTS and MAX_TENANTS_PER_CALLER must be at least 1")
	case c.DeletionGrace < time.Second:
		return errors.New("DELETION_GRACE must be at least a second: cellctl tenant purge ends that of one tenant")
	case c.AuditKeep < 24*time.Hour:
		return errors.New("AUDIT_KEEP must be at least 24h")
	case c.TokenTTL < time.Second || c.StopGrace <= 0:
		return errors.New("TOKEN_TTL must be at least a second and STOP_GRACE positive")
	}
	return nil
}
