package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/boards"
)

// flagsOnly refuses arguments. cobra.NoArgs calls a forgotten "--site" before
// a file name an unknown command.
func flagsOnly(cmd *cobra.Command, args []string) error {
	return want("flags only", cobra.NoArgs)(cmd, args)
}

// want puts into words what a rule for arguments wants.
func want(what string, rule cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if rule(cmd, args) == nil {
			return nil
		}
		return usageError(cmd, fmt.Errorf("want %s, got %q", what, args))
	}
}

// usageError tells where to read more.
func usageError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
}

// complete has the shell offer words for a flag.
func complete(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// completeBoards has the shell offer the boards for --board.
func completeBoards(cmd *cobra.Command) {
	err := cmd.RegisterFlagCompletionFunc("board", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var slugs []string
		all, _ := boards.All()
		for _, b := range all {
			slugs = append(slugs, b.Slug)
		}
		return slugs, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // there is no such flag
	}
}

// group makes a command of its subcommands: alone it shows its help, and a
// word that is none of them is an error (without RunE cobra shows help then,
// and ends with status 0).
func group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(sub...)
	return cmd
}
