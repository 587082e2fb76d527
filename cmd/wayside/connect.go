package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/catalog"
)

// newConnectCmd is `wayside connect`: connectors from the engineer's laptop.
func newConnectCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Try a connector of a profile from here, list what its device offers",
		Long: `connect talks to a device as the box would, from this machine. No broker is
needed, nothing is kept, and nothing is written to the device.`,
		Example: `  wayside connect test --profile plant.yaml press
  wayside connect browse --profile plant.yaml press`,
	}
	return group(cmd, newConnectTestCmd(), newConnectBrowseCmd())
}

type connectFlags struct {
	profile, secrets string
	timeout          time.Duration
	records          int
	asJSON, verbose  bool
}

func (f *connectFlags) bind(cmd *cobra.Command) {
	cmd.Args = want("one NAME", cobra.ExactArgs(1))
	cmd.Flags().StringVar(&f.profile, "profile", "", "site profile `FILE`")
	cmd.Flags().StringVar(&f.secrets, "secrets", "", "folder `DIR` of the files that the profile names (default: secrets beside the profile)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait for the device")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "show what the connector logs")
	_ = cmd.MarkFlagRequired("profile")
}

func newConnectTestCmd() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Show the first records of a connector",
		Long: `test runs one connector of a profile on this machine and shows what would be
its first records: topic, key, headers and value.`,
		Example: `  wayside connect test --profile plant.yaml press
  wayside connect test --profile plant.yaml press --records 100 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0], func(ctx context.Context, cfg connect.Config, i connect.Instance) error {
				fmt.Fprintf(cmd.ErrOrStderr(), "waiting for %s %s\n", i.Protocol, i.Name)
				return connect.Try(ctx, cfg, i, f.records, func(r *kgo.Record) { showRecord(cmd.OutOrStdout(), r, f.asJSON) })
			})
		},
	}
	f.bind(cmd)
	cmd.Flags().IntVar(&f.records, "records", 10, "how many records to show")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON objects {topic, key, value, headers, time}, one a line")
	return cmd
}

func newConnectBrowseCmd() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "browse NAME", Short: "List what a device offers, ready for the profile",
		Example: "  wayside connect browse --profile plant.yaml press",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0], func(ctx context.Context, cfg connect.Config, i connect.Instance) error {
				return connect.Browse(ctx, cfg, i, cmd.OutOrStdout())
			})
		},
	}
	f.bind(cmd)
	return cmd
}

// run finds the connector and calls do with it.
func (f *connectFlags) run(cmd *cobra.Command, name string, do func(context.Context, connect.Config, connect.Instance) error) error {
	p, _, err := loadSite(f.profile)
	if err != nil {
		return err
	}
	all, err := catalog.Instances(p, name)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		var names []string
		for _, l := range p.Connect.Instances() {
			names = append(names, l.Common().Name)
		}
		return fmt.Errorf("%s has no connector %q; there are: %s", f.profile, name, strings.Join(names, ", "))
	}
	secrets := f.secrets
	if secrets == "" {
		secrets = filepath.Join(filepath.Dir(f.profile), "secrets")
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	log := io.Discard
	if f.verbose {
		log = cmd.ErrOrStderr()
	}
	err = do(ctx, connect.Config{Site: p.Site, Secrets: secrets, Log: slog.New(slog.NewTextHandler(log, nil))}, all[0])
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("connector %s: the device did not answer within %s; --timeout waits longer, --verbose says more", name, f.timeout)
	}
	return err
}

func showRecord(out io.Writer, r *kgo.Record, asJSON bool) {
	if asJSON {
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]any{
			"topic": r.Topic, "key": string(r.Key), "value": printable(r.Value), "headers": headers, "time": r.Timestamp.UTC().Format(time.RFC3339Nano),
		})
		return
	}
	fmt.Fprintf(out, "%s  key %s  %s\n", r.Topic, printable(r.Key), r.Timestamp.UTC().Format("15:04:05.000"))
	fmt.Fprintf(out, "  %s\n", printable(r.Value))
	for _, h := range r.Headers {
		fmt.Fprintf(out, "  %s: %s\n", h.Key, printable(h.Value))
	}
}

// printable is text as it is, other bytes quoted.
func printable(b []byte) string {
	if utf8.Valid(b) && !strings.ContainsFunc(string(b), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }) {
		return string(b)
	}
	return fmt.Sprintf("%q", b)
}
