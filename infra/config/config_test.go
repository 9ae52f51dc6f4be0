package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// settings are those of a made-up process.
type settings struct {
	Addr     string        `env:"LISTEN_ADDR" envDefault:"127.0.0.1:8080" help:"where tenants connect"`
	Database Secret        `env:"DATABASE_URL,required" help:"where the data is"`
	Grace    time.Duration `env:"STOP_GRACE" envDefault:"90s" help:"time for requests under way"`
	Table    string        `env:"TABLE_FILE" help:"copy of the table on disk"`
	Internal int           // no setting
}

// Validate refuses what no single setting shows.
func (s *settings) Validate() error {
	if s.Grace < 0 {
		return errors.New("TEST_STOP_GRACE must not be negative")
	}
	return nil
}

func TestLoad(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		environ []string
		want    settings
		err     string // part of the error
	}{
		{
			name: "defaults", environ: []string{"TEST_DATABASE_URL=db", "OTHER_X=1"},
			want: settings{Addr: "127.0.0.1:8080", Database: "db", Grace: 90 * time.Second},
		},
		{
			name: "values", environ: []string{"TEST_DATABASE_URL=db?a=b", "TEST_LISTEN_ADDR=:1", "TEST_STOP_GRACE=2m"},
			want: settings{Addr: ":1", Database: "db?a=b", Grace: 2 * time.Minute},
		},
		{
			name: "a secret from a file, without its last newline", environ: []string{"TEST_DATABASE_URL_FILE=" + secret},
			want: settings{Addr: "127.0.0.1:8080", Database: "from file", Grace: 90 * time.Second},
		},
		{
			name: "a setting whose own name ends in _FILE is not read", environ: []string{"TEST_DATABASE_URL=db", "TEST_TABLE_FILE=" + secret},
			want: settings{Addr: "127.0.0.1:8080", Database: "db", Grace: 90 * time.Second, Table: secret},
		},
		{name: "an unknown variable", environ: []string{"TEST_DATABASE_URL=db", "TEST_LISTEN_ADR=x"}, err: "TEST_LISTEN_ADR (did you mean TEST_LISTEN_ADDR?)"},
		{name: "required", environ: nil, err: "TEST_DATABASE_URL"},
		{name: "both ways", environ: []string{"TEST_DATABASE_URL_FILE=" + secret, "TEST_DATABASE_URL=db"}, err: "both set"},
		{name: "no such file", environ: []string{"TEST_DATABASE_URL_FILE=" + secret + "x"}, err: "TEST_DATABASE_URL_FILE"},
		{name: "not a duration", environ: []string{"TEST_DATABASE_URL=db", "TEST_STOP_GRACE=soon"}, err: "soon"},
		{name: "Validate's error", environ: []string{"TEST_DATABASE_URL=db", "TEST_STOP_GRACE=-1s"}, err: "must not be negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got settings
			err := Load("TEST_", tt.environ, &got)
			if tt.err == "" && (err != nil || got != tt.want) {
				t.Errorf("got %#v (%v), want %#v", got, err, tt.want)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want an error with %q", err, tt.err)
			}
		})
	}
}

func TestErrorsDoNotShowSecrets(t *testing.T) {
	t.Parallel()
	var s settings
	err := Load("TEST_", []string{"TEST_DATABASE_URL=hunter2", "TEST_STOP_GRACE=soon"}, &s)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the secret", err)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"TEST_LISTEN_ADDR=127.0.0.1:8080", "TEST_DATABASE_URL_FILE=" + secret, "TEST_STOP_GRACE="}
	var out bytes.Buffer
	var s settings
	if done, err := Command("test", "TEST_", []string{"--print-config"}, environ, &out, &s); !done || err != nil {
		t.Fatalf("got done %v, %v", done, err)
	}
	want := `TEST_LISTEN_ADDR=127.0.0.1:8080	# env; where tenants connect
TEST_DATABASE_URL=********	# file ` + secret + `; where the data is
TEST_STOP_GRACE=1m30s	# default; time for requests under way
TEST_TABLE_FILE=	# default; copy of the table on disk
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSecretIsMaskedWhateverPrintsIt(t *testing.T) {
	t.Parallel()
	s := struct{ Password Secret }{"hunter2"}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s.Password, s.Password), string(asJSON)} {
		if strings.Contains(got, "hunter2") {
			t.Errorf("got %s, want it masked", got)
		}
	}
	if got := Secret("").String(); got != "" {
		t.Errorf("an empty secret prints %q, want nothing: it is missing", got)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"LISTEN_ADDR", "ADMIN_ADDR", "ID"}
	for _, tt := range []struct {
		name, want string
		distance   int
	}{{"LISTEN_ADDRESS", "LISTEN_ADDR", 3}, {"DI", "ID", 2}, {"ID", "ID", 0}} {
		if got, d := Nearest(tt.name, known); got != tt.want || d != tt.distance {
			t.Errorf("%s: got %s at %d, want %s at %d", tt.name, got, d, tt.want, tt.distance)
		}
	}
	if got, _ := Nearest("X", nil); got != "" {
		t.Errorf("got %q of nothing, want nothing", got)
	}
}
