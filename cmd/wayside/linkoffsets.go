package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/replicator"
)

func newLinkOffsetsCmd() *cobra.Command {
	var api linkAPI
	var topic string
	var partition int32
	var offset int64
	cmd := &cobra.Command{
		Use: "offsets LINK", Short: "Show where offsets of the box lie at the destination",
		Long: `offsets shows, for the consumer groups of the link, what they have committed on
the box, what that is at the destination, and whether it is committed there.
With --topic, --partition and --offset it translates one offset. A reader that
goes on from there misses nothing; where it says "about", it sees some records again.`,
		Example: `  wayside link offsets head-office --box 192.0.2.10
  wayside link offsets head-office --topic sensors --partition 0 --offset 1200 --box 192.0.2.10 --json`,
		Args: want("one LINK", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/links/" + url.PathEscape(args[0])
			if topic == "" {
				return api.showGroups(cmd, path)
			}
			q := url.Values{"topic": {topic}, "partition": {fmt.Sprint(partition)}, "offset": {fmt.Sprint(offset)}}
			var all []replicator.Translation
			raw, err := api.call(cmd.Context(), http.MethodGet, path+"/offsets?"+q.Encode(), &all)
			if err != nil {
				return err
			}
			if api.asJSON {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			for _, t := range all {
				fmt.Fprintf(cmd.OutOrStdout(), "%s/%d %s\n", t.To, t.Partition, destWord(t))
			}
			return nil
		},
	}
	api.bind(cmd)
	cmd.Flags().StringVar(&topic, "topic", "", "`TOPIC` at the source")
	cmd.Flags().Int32Var(&partition, "partition", 0, "its partition")
	cmd.Flags().Int64Var(&offset, "offset", 0, "offset at the source")
	return cmd
}

func destWord(t replicator.Translation) string {
	switch {
	case t.Dest < 0:
		return "unknown"
	case !t.Exact:
		return fmt.Sprintf("about %d", t.Dest)
	}
	return fmt.Sprint(t.Dest)
}

func (a *linkAPI) showGroups(cmd *cobra.Command, path string) error {
	var l replicator.LinkState
	if _, err := a.call(cmd.Context(), http.MethodGet, path, &l); err != nil {
		return err
	}
	if l.Groups == nil {
		l.Groups = []replicator.GroupOffset{}
	}
	if a.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(l.Groups)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tTOPIC\tPARTITION\tOFFSET\tTO\tAT DESTINATION\tSTATE")
	for _, g := range l.Groups {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", g.Group, g.Topic, g.Partition, g.Offset, g.To, destWord(g.Translation), g.State)
	}
	return w.Flush()
}
