package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/certs"
)

func certsCommand() *cobra.Command {
	var dir, ca string
	var hosts []string
	var keep bool
	cmd := &cobra.Command{
		Use: "certs ROLE/ID", Short: "Write a short-lived certificate of a development authority", Args: cobra.ExactArgs(1),
		Long: `Writes tls.crt, tls.key and ca.crt for a router, a cell or a mover, in the form in
which cert-manager, Vault and step-ca write them: for development and tests. The
authority is made when it is first used. A certificate counts for an hour.`,
		Example: "  cellway certs cell/c1 --dir certs/c1 --keep\n  cellway certs router/router-1 --dir certs/router-1 --host '*.cellway.localhost'",
		RunE: func(cmd *cobra.Command, args []string) error {
			role, id, ok := strings.Cut(args[0], "/")
			if !ok || id == "" || strings.Contains(id, "/") {
				return errors.New("name the part as ROLE/ID, such as cell/c1")
			}
			authority, err := certs.OpenCA(ca)
			if err != nil {
				return err
			}
			r := certs.Request{Role: role, ID: id, Hosts: hosts}
			if err := authority.Issue(dir, r); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s for %v\n", filepath.Join(dir, certs.CertFile), certs.DevLife)
			if keep {
				authority.Keep(cmd.Context(), dir, r, func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "! %v\n", err) })
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "certs", "where the files go")
	f.StringVar(&ca, "ca", ".cellway/ca", "directory of the authority")
	f.StringSliceVar(&hosts, "host", nil, "host name or address, for a listener that browsers call")
	f.BoolVar(&keep, "keep", false, "renew at half of its life, until Ctrl-C")
	return cmd
}
