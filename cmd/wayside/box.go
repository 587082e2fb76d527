package main

import "github.com/spf13/cobra"

// newBoxCmd is what an engineer does with a box that runs, from outside.
func newBoxCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "box", Short: "Talk to a running box over the network"}
	return group(cmd, newBoxUpdateCmd())
}
