package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// An example ends where a remark, a comment or a pipe begins.
var exampleEnd = regexp.MustCompile(`   .*|  # .*| [|>] .*`)

// TestExamplesParse wants an example of every command, with words and flags
// that the command takes.
func TestExamplesParse(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Example == "" {
			t.Errorf("%s --help shows no example", cmd.CommandPath())
		}
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			line = exampleEnd.ReplaceAllString(strings.TrimSpace(line), "")
			if err := parses(strings.Fields(strings.ReplaceAll(line, `MQTT: fewer wakeups`, "text"))); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCmd())
}

// parses takes a command line as far as it goes without doing anything.
func parses(words []string) error {
	root := newRootCmd()
	cmd, args, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
