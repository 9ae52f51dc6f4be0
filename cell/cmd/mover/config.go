package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
)

// prefix starts the name of every setting's variable.
const prefix = "MOVER_"

// Config is what the environment says; see infra/config.
type Config struct {
	ID             string        `env:"ID" envDefault:"mover-1" help:"name of this mover; leases carry it, so no two may share one"`
	AdminAddr      string        `env:"ADMIN_ADDR" envDefault:"127.0.0.1:7301" help:"address of health, metrics and profiles"`
	DirectoryURL   string        `env:"DIRECTORY_URL,required" help:"base URL of the directory"`
	DirectoryToken config.Secret `env:"DIRECTORY_TOKEN,required" help:"token of kind mover for the directory"`
	TokenKeys      config.Secret `env:"TOKEN_KEYS,required" help:"keys with which it says to cells who it is, from the directory's TOKEN_KEYS by directory derive-keys --for movers"`
	TLSIdentityDir string        `env:"TLS_IDENTITY_DIR" help:"tls.crt, tls.key and ca.crt by which cells know this mover; needed for cells with https addresses"`
	Parallel       int           `env:"PARALLEL" envDefault:"4" unit:"moves" help:"moves side by side"`
	LeaseTTL       time.Duration `env:"LEASE_TTL" envDefault:"5s" help:"how long after its death another mover takes over"`
	Poll           time.Duration `env:"POLL" envDefault:"200ms" help:"how often it looks for work"`
	PauseBudget    time.Duration `env:"PAUSE_BUDGET" envDefault:"300ms" help:"longest pause before a move is aborted by itself"`
	FreezeWait     time.Duration `env:"FREEZE_WAIT" envDefault:"150ms" help:"how long a freeze waits for the tenant's open transactions"`
	SmallBytes     int64         `env:"SMALL_BYTES" envDefault:"0" unit:"bytes" help:"a tenant up to this size is copied inside the pause in one step; 0 makes rounds for every tenant"`

	keys token.Keys
}

// Validate checks the settings and what they have to do with each other.
func (c *Config) Validate() (err error) {
	switch {
	case c.ID == "":
		return errors.New("ID must not be empty")
	case c.Parallel <= 0 || c.Poll <= 0:
		return errors.New("PARALLEL and POLL must be positive")
	case c.LeaseTTL < 2*c.PauseBudget:
		return errors.New("LEASE_TTL must be at least twice PAUSE_BUDGET: a lease that ends in the pause makes it longer")
	}
	if c.keys, err = token.ParseKeys(string(c.TokenKeys)); err != nil {
		return fmt.Errorf("TOKEN_KEYS: %w", err)
	}
	return c.limits().Validate()
}

func (c *Config) limits() mover.Limits {
	return mover.Limits{Pause: c.PauseBudget, FreezeWait: c.FreezeWait, SmallBytes: c.SmallBytes}
}
