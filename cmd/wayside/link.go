package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/replicator"
)

// newLinkCmd is `wayside link`: what links do, and what they would do.
func newLinkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "link",
		Short: "Look at links, stop and rewind them, try their rules",
		Long: `link asks a box by its status page, or a replicator that runs on this machine by
its socket, and tries the rules of a profile on records of a broker. All that
changes a link of a box needs the box's token.`,
		Example: `  wayside link list --box 192.0.2.10
  wayside link pause head-office --box 192.0.2.10 --token-file api.token
  wayside link offsets head-office --topic sensors --partition 0 --offset 1200 --box 192.0.2.10
  wayside link show head-office --run-dir /tmp/run --json
  wayside link rewind head-office --topic sensors --to earliest --run-dir /tmp/run
  wayside link preview --profile shop.yaml --topic sensors`,
	}
	return group(cmd, newLinkListCmd(), newLinkShowCmd(), newLinkOffsetsCmd(), newLinkDoCmd("pause", "Stop carrying, until it is resumed; restarts do not resume it"),
		newLinkDoCmd("resume", "Go on after a pause"), newLinkRewindCmd(), newLinkPreviewCmd())
}

// linkAPI is the replicator's, by the page of a box or by its socket.
type linkAPI struct {
	boxFlags
	runDir string
	asJSON bool
}

func (a *linkAPI) bind(cmd *cobra.Command) {
	a.boxFlags.bind(cmd)
	cmd.Flags().StringVar(&a.runDir, "run-dir", manifest.RunDir, "without --box: folder `DIR` of the services' sockets, as given to waysided")
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print what the replicator answers, as JSON")
}

// call asks and decodes the answer into v; raw is the answer itself.
func (a *linkAPI) call(ctx context.Context, method, path string, v any) (raw []byte, err error) {
	if a.box != "" {
		box, err := a.open(method != http.MethodGet)
		if err != nil {
			return nil, err
		}
		var answer json.RawMessage
		if err := box.do(ctx, method, path, &answer); err != nil {
			return nil, err
		}
		return append(answer, '\n'), json.Unmarshal(answer, v)
	}
	socket := filepath.Join(a.runDir, "replicator", manifest.StatusSock)
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://replicator"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the replicator at %s: %w; is it running, and is --run-dir its folder? Another machine is asked with --box HOST", socket, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20)); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(raw)))
	}
	return raw, json.Unmarshal(raw, v)
}

func newLinkListCmd() *cobra.Command {
	var api linkAPI
	cmd := &cobra.Command{
		Use: "list", Short: "Show every link in a line",
		Example: "  wayside link list --box 192.0.2.10",
		Args:    flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []replicator.LinkState
			raw, err := api.call(cmd.Context(), http.MethodGet, "/links", &all)
			if err != nil {
				return err
			}
			if api.asJSON {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "LINK\tDIRECTION\tSTATE\tGUARANTEE\tLAG\tERROR")
			for _, l := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", l.Name, l.Direction, linkWord(l), l.Guarantee, l.Lag.Records, l.Error)
			}
			return w.Flush()
		},
	}
	api.bind(cmd)
	return cmd
}

func linkWord(l replicator.LinkState) string {
	switch {
	case l.Paused:
		return "paused"
	case l.Up:
		return "up"
	}
	return "down"
}

func newLinkShowCmd() *cobra.Command {
	var api linkAPI
	cmd := &cobra.Command{
		Use: "show LINK", Short: "Show a link with the position of every partition",
		Example: "  wayside link show head-office --box 192.0.2.10",
		Args:    want("one LINK", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return api.show(cmd, http.MethodGet, "/links/"+url.PathEscape(args[0]))
		},
	}
	api.bind(cmd)
	return cmd
}

func newLinkDoCmd(verb, short string) *cobra.Command {
	var api linkAPI
	cmd := &cobra.Command{
		Use: verb + " LINK", Short: short,
		Example: "  wayside link " + verb + " head-office --box 192.0.2.10 --token-file api.token",
		Args:    want("one LINK", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return api.show(cmd, http.MethodPost, "/links/"+url.PathEscape(args[0])+"/"+verb)
		},
	}
	api.bind(cmd)
	return cmd
}

func newLinkRewindCmd() *cobra.Command {
	var api linkAPI
	var topic, to string
	partition := -1
	cmd := &cobra.Command{
		Use: "rewind LINK", Short: "Set where a topic is carried from",
		Long: `rewind has a link carry a topic from an offset of its source on, or from where
its log starts or ends. Records are carried again, or left out: that is what
it is for. The new position is kept like any other.`,
		Example: `  wayside link rewind head-office --topic sensors --to earliest --box 192.0.2.10 --token-file api.token
  wayside link rewind head-office --topic sensors --partition 2 --to 1200 --run-dir /tmp/run`,
		Args: want("one LINK", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"topic": {topic}, "to": {to}}
			if partition >= 0 {
				q.Set("partition", fmt.Sprint(partition))
			}
			return api.show(cmd, http.MethodPost, "/links/"+url.PathEscape(args[0])+"/rewind?"+q.Encode())
		},
	}
	api.bind(cmd)
	cmd.Flags().StringVar(&topic, "topic", "", "`TOPIC` at the source")
	cmd.Flags().IntVar(&partition, "partition", -1, "partition; default: all")
	cmd.Flags().StringVar(&to, "to", "", "an `OFFSET`, earliest or latest")
	_ = cmd.MarkFlagRequired("topic")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

// show calls and prints the link that is answered.
func (a *linkAPI) show(cmd *cobra.Command, method, path string) error {
	var l replicator.LinkState
	raw, err := a.call(cmd.Context(), method, path, &l)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if a.asJSON {
		_, err = out.Write(raw)
		return err
	}
	fmt.Fprintf(out, "%s: %s, %s, %s\n", l.Name, l.Direction, linkWord(l), l.Guarantee)
	if l.Error != "" {
		fmt.Fprintf(out, "error: %s\n", l.Error)
	}
	fmt.Fprintf(out, "waiting: %s\nuplink: %d bytes since the start", l.Lag, l.WireBytes)
	if l.Rate > 0 {
		fmt.Fprintf(out, ", %d bytes/s allowed now", l.Rate)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tTOPIC\tPARTITION\tTO\tNEXT\tAT DESTINATION\tERROR")
	for _, p := range l.Partitions {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%s\n", p.Rule, p.Topic, p.Partition, p.To, p.Next, p.Dest, p.Error)
	}
	return w.Flush()
}
