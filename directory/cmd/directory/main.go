// Command directory keeps the record of which cell owns which tenant and serves
// it over HTTP. Several may run on one database, side by side.
//
// Besides serving, which it does without an argument, it makes keys and tokens:
//
//	directory new-key --id k1
//	directory derive-keys --for cell/c1
//	directory issue-token --kind operator --subject ann --ttl 12h
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/run"
)

func main() {
	run.Service("directory", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout)
	})
}

// command does what args say.
func command(ctx context.Context, args, environ []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "new-key":
			return newKey(args[1:], out)
		case "derive-keys":
			return deriveKeys(args[1:], os.Stdin, out)
		case "issue-token":
			return issueToken(args[1:], environ, out)
		}
		if !strings.HasPrefix(args[0], "-") {
			return fmt.Errorf("no command %q: there are new-key, derive-keys and issue-token", args[0])
		}
	}
	var cfg Config
	if done, err := config.Command("directory", prefix, args, environ, out, &cfg); done || err != nil {
		return err
	}
	return serve(ctx, cfg)
}

// newFlags makes flags whose errors come back instead of ending the process.
func newFlags(name string) *flag.FlagSet {
	return flag.NewFlagSet(name, flag.ContinueOnError)
}
