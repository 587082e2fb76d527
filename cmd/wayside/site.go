package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/site"
)

// newSiteCmd is `wayside site`: check and show site profiles, by the same
// rules as the box, and change that of a box that runs.
func newSiteCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "site",
		Short: "Check and show site profiles, and change that of a box",
		Example: `  wayside site check shop.yaml
  wayside site show shop.yaml
  wayside site apply shop.yaml --box 192.0.2.10 --token-file api.token`,
	}
	return group(cmd, newSiteCheckCmd(), newSiteShowCmd(), newSiteApplyCmd(), newSiteBackCmd(), newSiteStatusCmd())
}

func newSiteCheckCmd() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check site profiles, as the box does",
		Long: `check reads site profiles as the box does and prints everything that is wrong
with them, one line each, as a compiler does: file:line:column: field: reason.
It ends with status 1 if anything is wrong. With --json it prints one list of
{file, line, column, field, reason, hint}, empty if nothing is wrong.`,
		Example: `  wayside site check shop.yaml
  wayside site check --json sites/*.yaml`,
		Args: want("one FILE or more", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			wrong := checkSites(cmd, files, asJSON)
			if wrong {
				return exitCode(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what is wrong as a JSON list on stdout")
	return cmd
}

// checkSites says whether anything is wrong, having printed what.
func checkSites(cmd *cobra.Command, files []string, asJSON bool) bool {
	all := site.Errors{}
	for _, file := range files {
		p, errs := readSite(file)
		all = append(all, errs...)
		switch {
		case asJSON:
		case errs != nil:
			fmt.Fprintln(cmd.ErrOrStderr(), errs)
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, site %s\n", file, p.Site)
		}
	}
	if asJSON {
		_ = printJSON(cmd.OutOrStdout(), all)
	}
	return len(all) > 0
}

// printJSON is for scripts, and for people who look at what scripts read.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// readSite reads and checks one file; one that cannot be read is wrong too.
func readSite(file string) (*site.Profile, site.Errors) {
	data, err := os.ReadFile(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, site.Errors{{File: file, Line: 1, Column: 1, Reason: "cannot be read: " + err.Error()}}
	}
	p, err := site.Parse(file, data)
	if err != nil {
		var errs site.Errors
		errors.As(err, &errs) // always; see site.Parse
		return nil, errs
	}
	return p, nil
}

// loadSite reads a profile for a command that cannot go on without it, and
// returns its text as well.
func loadSite(file string) (*site.Profile, []byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read site profile: %w", err)
	}
	p, err := site.Parse(file, data)
	if err != nil {
		return nil, nil, fmt.Errorf("site profile is not valid:\n%w", err)
	}
	return p, data, nil
}

func newSiteShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Show a site profile with every default filled in",
		Long:    "show prints the profile as the box uses it: checked, with every default filled in.",
		Example: "  wayside site show shop.yaml",
		Args:    want("one FILE", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			p, errs := readSite(files[0])
			if errs != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), errs)
				return exitCode(1)
			}
			out, err := site.Marshal(p)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
}
