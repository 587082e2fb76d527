package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/services/claim"
)

// madeClaim is a claim as it is shown: nothing of what is in its secrets.
type madeClaim struct {
	File      string            `json:"file"`
	Name      string            `json:"name"`
	Issued    time.Time         `json:"issued"`
	Expires   time.Time         `json:"expires"`
	Serial    string            `json:"serial,omitempty"`
	MAC       string            `json:"mac,omitempty"`
	Variables map[string]string `json:"variables,omitempty"`
	Secrets   []string          `json:"secrets"`
	Signed    string            `json:"signed,omitempty"` // of inspect: "yes", "no", "not checked"

	text []byte
}

func describe(file string, c *claim.Claim) madeClaim {
	return madeClaim{
		File: file, Name: c.Name, Issued: c.Issued, Expires: c.Expires, Serial: c.Serial, MAC: c.MAC, Variables: c.Variables,
		Secrets: append([]string{}, slices.Sorted(maps.Keys(c.Secrets))...),
	}
}

func newClaimInspectCmd() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE...",
		Short: "Show what claims say, but for what is in their secrets",
		Long: `Prints whose box a claim makes, until when and where it may be taken over, its
variables, and the names of its secrets. The signature is checked by the newest
update root of the key folder. It ends with status 1 if one is not the owner's.`,
		Example: `  wayside claim inspect shop-042.claim
  wayside claim inspect --json claims/*.claim | jq '.[] | {name, expires}'`,
		Args: want("one FILE or more", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			all := []madeClaim{}
			foreign := false
			for _, file := range files {
				c, err := inspectClaim(file, dir)
				if err != nil {
					return err
				}
				all, foreign = append(all, c), foreign || c.Signed == "no"
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), all); err != nil {
					return err
				}
			} else {
				printClaims(cmd.OutOrStdout(), all)
			}
			if foreign {
				return exitCode(1)
			}
			return nil
		},
	}
	addKeysFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func inspectClaim(file, dir string) (madeClaim, error) {
	text, err := readClaim(file)
	if err != nil {
		return madeClaim{}, err
	}
	c, err := claim.Read(text)
	if err != nil {
		return madeClaim{}, fmt.Errorf("claim %s: %w", file, err)
	}
	m := describe(file, c)
	if dir, err = keysDir(dir); err != nil {
		return madeClaim{}, err
	}
	root, err := keys.UpdateRoot(dir)
	if err != nil {
		return madeClaim{}, err
	}
	m.Signed = "not checked"
	if root != nil {
		m.Signed = "yes"
		if _, err := claim.Open(text, root); err != nil {
			m.Signed = "no"
		}
	}
	return m, nil
}

// readClaim reads no more than a claim may have.
func readClaim(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read claim: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, claim.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read claim: %w", err)
	}
	return text, nil
}

func printClaims(out io.Writer, all []madeClaim) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	for i, c := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		signed := map[string]string{"yes": "by the keys here", "no": "NOT by the keys here", "not checked": "not checked: there are no update keys here"}[c.Signed]
		fmt.Fprintf(w, "file\t%s\nname\t%s\nsigned\t%s\nissued\t%s\nexpires\t%s\n", c.File, c.Name, signed,
			c.Issued.Format(time.DateTime), c.Expires.Format(time.DateTime))
		bound := strings.TrimSpace(c.Serial + " " + c.MAC)
		if bound == "" {
			bound = "any box"
		}
		fmt.Fprintf(w, "for\t%s\n", bound)
		for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
			fmt.Fprintf(w, "variable\t%s=%s\n", name, c.Variables[name])
		}
		for _, name := range c.Secrets {
			fmt.Fprintf(w, "secret\t%s\n", name)
		}
	}
}
