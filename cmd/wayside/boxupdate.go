package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/manifest"
)

type boxUpdateFlags struct {
	boxFlags
	asJSON, noWait bool
}

func newBoxUpdateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Look at and steer the updates of a box",
		Long: `An update goes in four steps, each of which a box takes by itself as far as its
profile says (update.auto): refresh looks for a release, prepare downloads and
verifies it, activate has the next start be a trial of it, reboot starts it.
The box keeps the new version when it does all that it did before, and goes
back else. docs/updates.md tells the whole of it.

All but status need the box's token: the file api.token in the secrets folder
of its boot partition.`,
		Example: `  wayside box update status --box http://192.0.2.10:8080
  wayside box update refresh --box 192.0.2.10 --token-file api.token
  wayside box update prepare --box 192.0.2.10 --token-file api.token --json`,
	}
	return group(cmd,
		boxVerb("status", "Show what runs, what is available, and how the last update went", "", false),
		boxVerb("refresh", "Ask the sources for newer releases", "", false),
		boxVerb("prepare", "Download and verify the newest release into the other slot", "Waits until it is done, unless --no-wait is given.", true),
		boxVerb("activate", "Have the next start be a trial of the prepared release", "", false),
		boxVerb("reboot", "Restart the box; during a trial this is no failure", "", false),
		boxRetry(),
	)
}

func boxVerb(verb, short, more string, long bool) *cobra.Command {
	var f boxUpdateFlags
	example := "  wayside box update " + verb + " --box http://192.0.2.10:8080"
	if verb != "status" {
		example += " --token-file api.token"
	}
	cmd := &cobra.Command{
		Use: verb, Short: short, Long: strings.TrimSpace(short + ".\n" + more), Args: flagsOnly,
		Example: example,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd, verb, "") },
	}
	f.bind(cmd)
	if long {
		cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "return as soon as it has begun")
	}
	return cmd
}

func boxRetry() *cobra.Command {
	var f boxUpdateFlags
	cmd := &cobra.Command{
		Use:   "retry [VERSION]",
		Short: "Let a version that failed be tried again",
		Long:  "Makes the box forget that a version failed on it: the latest that did, or the one given.",
		Example: `  wayside box update retry --box 192.0.2.10 --token-file api.token
  wayside box update retry 0.2.0 --box 192.0.2.10 --token-file api.token`,
		Args: want("at most one version", cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			version := ""
			if len(args) > 0 {
				version = args[0]
			}
			return f.run(cmd, "retry", version)
		},
	}
	f.bind(cmd)
	return cmd
}

func (f *boxUpdateFlags) bind(cmd *cobra.Command) {
	f.boxFlags.bind(cmd)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print what the updater says as JSON")
}

func (f *boxUpdateFlags) run(cmd *cobra.Command, verb, version string) error {
	b, err := f.open(verb != "status")
	if err != nil {
		return err
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	var v manifest.Update
	switch {
	case verb == "status":
		err = b.get(ctx, "/update", &v)
	case version != "":
		err = b.post(ctx, "/update/"+verb, map[string]string{"version": version}, &v)
	default:
		err = b.post(ctx, "/update/"+verb, nil, &v)
	}
	if err == nil && verb == "prepare" && !f.noWait {
		err = watchPrepare(ctx, b, cmd.ErrOrStderr(), &v)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	if verb == "reboot" {
		fmt.Fprintln(out, "the box restarts")
		return nil
	}
	printUpdate(out, v)
	return nil
}

// watchPrepare asks until the download is over, and shows how far it is.
func watchPrepare(ctx context.Context, b *boxClient, progress io.Writer, v *manifest.Update) error {
	said := ""
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for v.Phase == manifest.UpdatePreparing || v.Step != "" {
		line := v.Step
		if v.Total > 0 {
			line = fmt.Sprintf("%s: %d of %d MB", v.Step, v.Done/1e6, v.Total/1e6)
		}
		if line != said {
			fmt.Fprintln(progress, line)
			said = line
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		*v = manifest.Update{}
		if err := b.get(ctx, "/update", v); err != nil {
			return err
		}
	}
	if v.Problem != "" {
		return errors.New(v.Problem)
	}
	return nil
}

// printUpdate tells a person.
func printUpdate(out io.Writer, v manifest.Update) {
	line := func(name, format string, a ...any) { fmt.Fprintf(out, "%-10s %s\n", name, fmt.Sprintf(format, a...)) }
	line("runs", "%s (counter %d), %s", v.Running, v.Counter, v.Phase)
	if v.Trial != nil {
		line("trial", "%.0f s are left to prove itself, try %d", v.Trial.Remaining, v.Trial.TriesDone)
	}
	for _, c := range v.Checks {
		state := "well"
		if !c.OK {
			state = "NOT WELL: " + c.Detail
		}
		line("check", "%s: %s", c.Name, state)
	}
	release := func(name string, r *manifest.UpdateRelease) {
		if r != nil {
			line(name, "%s (counter %d), at most %.1f MB %s", r.Version, r.Counter, float64(r.Bytes)/1e6, r.Notes)
		}
	}
	release("available", v.Available)
	release("prepared", v.Prepared)
	for _, r := range v.Refused {
		line("refused", "%s: %s", r.Name, r.Value)
	}
	if v.Step != "" {
		line("doing", "%s, %d of %d bytes", v.Step, v.Done, v.Total)
	}
	if v.Waits != "" {
		line("waits", "%s", v.Waits)
	}
	for _, s := range v.Sources {
		state := "answered " + s.Checked.UTC().Format(time.RFC3339)
		if !s.OK {
			state = s.Error
		}
		line("source", "%s: %s", s.Name, state)
	}
	if l := v.Last; l != nil && l.Committed {
		line("last", "%s was kept, %s", l.Version, l.Time.UTC().Format(time.RFC3339))
	} else if l != nil {
		line("last", "%s FAILED: %s: %s", l.Version, l.Check, l.Reason)
		for _, text := range l.Log {
			line("", "%s", text)
		}
	}
	if v.Blame != "" {
		line("blame", "the %s", v.Blame)
	}
	if v.Problem != "" {
		line("problem", "%s", v.Problem)
	}
}
