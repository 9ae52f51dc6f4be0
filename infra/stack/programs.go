package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cellway/cellway/infra/local"
)

// programs are where the binaries are.
type programs struct {
	postgres                       string // a directory
	redis                          string
	directory, router, cell, mover string
	user                           *local.User // whom Postgres runs as
}

func findPrograms(opts Options) (programs, error) {
	var p programs
	var err error
	if p.postgres, err = local.FindPostgres(opts.PostgresBin); err != nil {
		return p, err
	}
	if p.redis, err = local.FindRedis(opts.RedisServer); err != nil {
		return p, err
	}
	if p.user, err = local.Unprivileged(); err != nil {
		return p, err
	}
	for name, path := range map[string]*string{"directory": &p.directory, "router": &p.router, "cell": &p.cell, "mover": &p.mover} {
		*path = filepath.Join(opts.BinDir, name)
		if info, err := os.Stat(*path); err != nil || info.IsDir() {
			return p, fmt.Errorf("no binary %q in %s: run `make build`", name, opts.BinDir)
		}
	}
	return p, nil
}

// token mints a token for a process or an operator, once: it is remembered.
func (s *Stack) token(ctx context.Context, kind, subject string) (string, error) {
	s.plan.mu.Lock()
	known := s.plan.Tokens[subject]
	s.plan.mu.Unlock()
	if known != "" {
		return known, nil
	}
	token, err := s.signs(ctx, "", "issue-token", "--kind", kind, "--subject", subject, "--ttl", "87600h")
	if err != nil {
		return "", fmt.Errorf("issue token for %s: %w", subject, err)
	}
	s.plan.mu.Lock()
	s.plan.Tokens[subject] = token
	s.plan.mu.Unlock()
	return token, nil
}

// RouterToken is what a router that is not the stack's own shows the directory.
func (s *Stack) RouterToken(ctx context.Context, id string) (string, error) {
	return s.token(ctx, "router", id)
}

// derive is, of keys, those for whom: no process has more than it needs.
func (s *Stack) derive(ctx context.Context, keys string, whom ...string) (string, error) {
	for _, who := range whom {
		var err error
		if keys, err = s.signs(ctx, keys, "derive-keys", "--for", who); err != nil {
			return "", fmt.Errorf("derive keys for %s: %w", who, err)
		}
	}
	return keys, nil
}

// signs is what the directory's program, which has the keys, says.
func (s *Stack) signs(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.programs.directory, args...)
	cmd.Env = append(baseEnv(), "DIRECTORY_TOKEN_KEYS="+s.plan.TokenKeys)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// baseEnv is what every child inherits: no setting of ours by accident.
func baseEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "TZ", "LANG", "GOTRACEBACK", "GOMAXPROCS", "GOMEMLIMIT", "GORACE", "GOCOVERDIR":
			env = append(env, kv)
			continue
		}
		if strings.HasPrefix(name, "OTEL_") {
			env = append(env, kv)
		}
	}
	return env
}

// withPrefix are the settings of the caller for processes of one kind.
func withPrefix(env []string, prefix string) []string {
	var out []string
	for _, kv := range env {
		if strings.HasPrefix(kv, prefix) {
			out = append(out, kv)
		}
	}
	return out
}
