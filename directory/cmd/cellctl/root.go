package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/run"
)

const rootHelp = `cellctl shows and changes what the directory records: cells, tenants and who
owns what. It finds the directory by --addr and --token, CELLCTL_ADDR and
CELLCTL_TOKEN, or the current context of ~/.config/cellctl/config.yaml; a context
that --context names goes before the environment.

Exit codes: ` + exitHelp

const rootExample = `  cellctl cell list
  cellctl tenant create acme --locality eu
  cellctl token create --tenant acme --subject alice --ttl 720h
  cellctl route explain --path /t/acme/v1/projects
  cellctl tenant list --limit 0 -o json | jq -r '.items[].slug'`

// helpTemplate and usageTemplate put examples before flags, because most readers
// look for one to copy, and name the global flags at the root only.
const (
	helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{.UsageString}}`
	usageTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} <command>{{else}}{{.UseLine}}{{end}}
{{if .HasAvailableSubCommands}}
Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
See also: cellctl --help for the flags that every command has{{else}}
See also: cellctl <command> --help{{end}}
`
)

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "cellctl", Short: "Operate Cellway", Long: rootHelp, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true, Version: run.Version,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.addr, "addr", "", "base URL of the directory (CELLCTL_ADDR)")
	f.StringVar(&a.flags.token, "token", "", "operator token (CELLCTL_TOKEN; rather than here, where other users see it)")
	f.StringVar(&a.flags.router, "router", "", "base URL of a router's admin listener (CELLCTL_ROUTER)")
	f.StringVar(&a.flags.context, "context", "", "context of the config file to use (CELLCTL_CONTEXT)")
	f.StringVarP(&a.flags.output, "output", "o", "table", "how to answer: "+strings.Join(formats, ", "))
	f.StringSliceVar(&a.flags.columns, "columns", nil, "columns to show, in this order, also those of -o wide")
	f.BoolVar(&a.flags.noHeaders, "no-headers", false, "leave the headers of tables and csv out")
	f.BoolVar(&a.flags.noColor, "no-color", false, "never colour (NO_COLOR)")
	f.DurationVar(&a.flags.timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkFormat() }
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(usageTemplate)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd.CommandPath()+" --help shows its flags", "%s", err)
	})
	root.AddCommand(a.cellCommand(), a.tenantCommand(), a.moveCommand(), a.tokenCommand(), a.keyCommand(), a.routerCommand(),
		a.rolloutCommand(), a.routeCommand(), a.auditCommand(), a.waitCommand(), a.configCommand(), a.versionCommand())
	group(root)
	return root
}

// group makes a command that only has sub-commands show its help, and say what
// was probably meant where the sub-command does not exist.
func group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(sub...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := cmd.CommandPath() + " --help lists the commands"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + cmd.CommandPath() + " " + near[0] + "?"
		}
		return usage(hint, "unknown command %q for %q", args[0], cmd.CommandPath())
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// names says what a command's arguments are, for the error when they are not
// there: names("NAME") takes exactly one.
func names(want ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "usage: " + cmd.UseLine()
		if len(args) == len(want) {
			for i, arg := range args {
				if arg == "" { // a variable that is not set; there is nothing of that name
					return usage(hint, "%s: %s is empty", cmd.CommandPath(), want[i])
				}
			}
			return nil
		}
		if len(args) < len(want) {
			return usage(hint, "%s: %s is missing", cmd.CommandPath(), want[len(args)])
		}
		return usage(hint, "%s: unexpected argument %q", cmd.CommandPath(), args[len(want)])
	}
}

// required is an error where a flag that a command cannot do without is empty.
func required(cmd *cobra.Command, flags ...string) error {
	var missing []string
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f.Value.String() == "" {
			missing = append(missing, "--"+name+" is missing")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return usage("usage: "+cmd.UseLine(), "%s", strings.Join(missing, ", "))
}
