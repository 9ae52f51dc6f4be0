package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// Where operators say which binaries to use.
const (
	PostgresBinEnv = "CELLWAY_POSTGRES_BIN" // directory that holds postgres and initdb
	RedisServerEnv = "CELLWAY_REDIS_SERVER" // path of redis-server
	ConsulEnv      = "CONSUL_BIN"           // path of consul
)

// A Missing is the error of a program that is not on this machine.
type Missing struct {
	Program string
	Package string // Debian's name of the package that has it
	Env     string // the variable that may name its place
}

// Error says what to install.
func (m *Missing) Error() string {
	return fmt.Sprintf("%s is not on this machine: run `apt-get install %s` (macOS: `brew install %s`; in a clone: `make deps`) or set %s",
		m.Program, m.Package, m.Package, m.Env)
}

// FindPostgres is the directory of the Postgres binaries: dir if it is not "",
// else the one named by CELLWAY_POSTGRES_BIN, found in PATH, or where Debian
// and Homebrew put it, newest version first.
func FindPostgres(dir string) (string, error) {
	missing := &Missing{"postgres", "postgresql", PostgresBinEnv}
	for _, named := range []string{dir, os.Getenv(PostgresBinEnv)} {
		if named == "" {
			continue
		}
		if !hasPostgres(named) {
			return "", fmt.Errorf("no postgres and initdb in %s: %w", named, missing)
		}
		return named, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && hasPostgres(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("find postgres: %w", err)
		}
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		for _, d := range dirs {
			if hasPostgres(d) {
				return d, nil
			}
		}
	}
	return "", missing
}

// version is the first number in a path.
func version(path string) int {
	start := slices.IndexFunc([]byte(path), isDigit)
	if start < 0 {
		return 0
	}
	end := start
	for end < len(path) && isDigit(path[end]) {
		end++
	}
	n, _ := strconv.Atoi(path[start:end]) // digits only
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func hasPostgres(dir string) bool {
	return executable(filepath.Join(dir, "postgres")) && executable(filepath.Join(dir, "initdb"))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// FindRedis is the path of redis-server: path if it is not "", else what
// CELLWAY_REDIS_SERVER names, PATH holds or Homebrew installs.
func FindRedis(path string) (string, error) {
	return find(path, &Missing{"redis-server", "redis-server", RedisServerEnv},
		"/usr/bin/redis-server", "/opt/homebrew/bin/redis-server", "/usr/local/bin/redis-server")
}

// FindConsul is the path of consul, from CONSUL_BIN or PATH.
func FindConsul() (string, error) {
	return find("", &Missing{"consul", "consul", ConsulEnv})
}

func find(named string, missing *Missing, places ...string) (string, error) {
	if named == "" {
		named = os.Getenv(missing.Env)
	}
	if named != "" {
		if !executable(named) {
			return "", fmt.Errorf("no program at %s: %w", named, missing)
		}
		return named, nil
	}
	if path, err := exec.LookPath(missing.Program); err == nil {
		return path, nil
	}
	for _, p := range places {
		if executable(p) {
			return p, nil
		}
	}
	return "", missing
}
