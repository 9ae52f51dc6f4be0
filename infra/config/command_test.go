package config_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/run"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	type settings struct {
		Addr  string        `env:"ADDR" envDefault:"127.0.0.1:1" help:"where"`
		Token config.Secret `env:"TOKEN,required" help:"what"`
	}
	for name, tt := range map[string]struct {
		args, environ []string
		done          bool
		out, err      string
	}{
		"to run":           {nil, []string{"X_TOKEN=hunter2"}, false, "", ""},
		"a setting lacks":  {nil, nil, false, "", "TOKEN"},
		"an argument":      {[]string{"serve"}, []string{"X_TOKEN=hunter2"}, false, "", `x takes no argument, got "serve"`},
		"an unknown flag":  {[]string{"--nonsense"}, nil, false, "", "nonsense"},
		"version":          {[]string{"--version"}, nil, true, run.Version, ""},
		"help":             {[]string{"--help"}, nil, true, "", ""},
		"the settings":     {[]string{"--print-config"}, []string{"X_TOKEN=hunter2", "X_ADDR=here"}, true, "X_ADDR=here", ""},
		"what there is":    {[]string{"--print-settings"}, nil, true, "| `X_ADDR` | `127.0.0.1:1` | text | where |", ""},
		"bad ones, to see": {[]string{"--print-config"}, []string{"X_TOKEN=hunter2", "X_ADR=here"}, false, "", "X_ADR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			var into settings
			done, err := config.Command("x", "X_", tt.args, tt.environ, &out, &into)
			switch {
			case done != tt.done, (err == nil) != (tt.err == ""):
				t.Errorf("got done %v, %v", done, err)
			case err != nil && !strings.Contains(err.Error(), tt.err):
				t.Errorf("got %v, want it to say %q", err, tt.err)
			case !strings.Contains(out.String(), tt.out) || strings.Contains(out.String(), "hunter2"):
				t.Errorf("got %q, want it to have %q and no secret", out.String(), tt.out)
			case !done && err == nil && into.Token != "hunter2":
				t.Errorf("got %+v", into)
			}
		})
	}
}
