package main

import "github.com/spf13/cobra"

// newBoxCmd is what an engineer does with a box that runs, from outside.
func newBoxCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "box",
		Short: "Talk to a running box over the network",
		Example: `  wayside box update status --box 192.0.2.10
  wayside box update prepare --box 192.0.2.10 --token-file api.token`,
	}
	return group(cmd, newBoxUpdateCmd())
}
