package store

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// groupRoles have no login and belong to the whole server: cell_app is what the
// application may do, cell_fence owns the gate, cell_scan the functions that look
// for work across tenants, cell_move is what the transfer endpoint may do. None
// gets past row security; of login roles only PrepareMover's does.
var groupRoles = []string{"cell_app", "cell_fence", "cell_scan", "cell_move"}

const noPower = ` NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION`

// sessionLimits hold for every session of the login role: a statement, and a
// transaction that its client forgot, end before they can stall a freeze for long.
var sessionLimits = map[string]string{
	"statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s", "search_path": "",
}

// prepareRoles makes the roles and returns the name of the login role.
func prepareRoles(ctx context.Context, conn *pgx.Conn, appURL string) (string, error) {
	app, err := pgx.ParseConfig(appURL)
	if err != nil {
		return "", errors.New("parse the application's database url: it is malformed")
	}
	if app.User == conn.Config().User {
		return "", fmt.Errorf("the application must not run as the owner %q", app.User)
	}
	var super bool
	if err := conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&super); err != nil {
		return "", fmt.Errorf("read own role: %w", err)
	}
	var todo []string
	for _, r := range groupRoles {
		todo = append(todo, createRole(r), `ALTER ROLE `+r+` NOLOGIN`)
		if !super {
			todo = append(todo, `GRANT `+r+` TO CURRENT_USER`) // an owner of functions must be one of us
		}
	}
	login, err := loginRole(app.User, app.Password, super)
	if err != nil {
		return "", err
	}
	todo = append(append(todo, login...), `DO $$ BEGIN
		EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
		EXECUTE format('GRANT CONNECT ON DATABASE %I TO cell_app', current_database());
		END $$`)
	for _, sql := range todo {
		if err := execShared(ctx, conn, sql); err != nil {
			return "", err
		}
	}
	return app.User, nil
}

// createRole makes a role unless it is there; several databases of one server
// may be prepared at once.
func createRole(name string) string {
	return `DO $$ BEGIN CREATE ROLE ` + name + `; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`
}

// loginRole is the statements that make the role that the cell runs as.
func loginRole(user, password string, super bool) ([]string, error) {
	name := pgx.Identifier{user}.Sanitize()
	alter := `ALTER ROLE ` + name + ` LOGIN INHERIT`
	if super { // else the role cannot have these powers, and we must not name them
		alter += noPower
	}
	if password != "" {
		verifier, err := scramVerifier(password)
		if err != nil {
			return nil, err
		}
		alter += ` PASSWORD '` + verifier + `'` // base64 and punctuation: nothing to quote
	}
	todo := []string{createRole(name), alter, `GRANT cell_app TO ` + name}
	for setting, value := range sessionLimits {
		todo = append(todo, `ALTER ROLE `+name+` SET `+setting+` = '`+value+`'`)
	}
	return todo, nil
}

// scramVerifier is what Postgres stores of a password (RFC 5803), made here so
// that the password itself is neither sent nor logged.
func scramVerifier(password string) (string, error) {
	const rounds = 4096
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive password verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt[:]), b64(stored[:]), b64(mac("Server Key"))), nil
}

// execShared runs a statement about an object that all databases of the server
// share. Two at once may collide, which Postgres answers with XX000 "tuple
// concurrently updated"; the later one is repeated a few times.
func execShared(ctx context.Context, conn *pgx.Conn, sql string) error {
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, sql)
		if c := pg.Code(err); (c != "XX000" && c != pg.UniqueViolation) || try == 10 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * 10 * time.Millisecond):
		}
	}
}
