package main

import "github.com/spf13/cobra"

func (a *app) routeCommand() *cobra.Command {
	return group(&cobra.Command{Use: "route", Short: "Routes: why a request goes where it goes"})
}
