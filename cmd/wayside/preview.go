package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/replicator"
	"github.com/waysideos/wayside/services/site"
)

// previewWait is how long a broker may take to give the records.
const previewWait = time.Minute

type previewFlags struct {
	profile, topic, link, broker string
	records                      int
	asJSON                       bool
}

func newLinkPreviewCmd() *cobra.Command {
	var f previewFlags
	cmd := &cobra.Command{
		Use: "preview", Short: "Show what links would make of a topic's records",
		Long: `preview reads the newest records of a topic and shows what every link and rule
of a profile that names the topic would carry of them. Nothing is carried and
no position moves.`,
		Example: `  wayside link preview --profile shop.yaml --topic sensors
  wayside link preview --profile shop.yaml --topic sensors --link head-office --records 1000 --json`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPreview(cmd, f) },
	}
	cmd.Flags().StringVar(&f.profile, "profile", "", "site profile `FILE`")
	cmd.Flags().StringVar(&f.topic, "topic", "", "`TOPIC` at the source")
	cmd.Flags().StringVar(&f.link, "link", "", "only this `LINK`; default: all")
	cmd.Flags().StringVar(&f.broker, "broker", "", "`HOST:PORT` of the source (default: on this machine, the profile's port)")
	cmd.Flags().IntVar(&f.records, "records", 20, "how many of the newest records of each partition")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print a JSON list of {link, rule, topic, to, in, out, records}")
	_ = cmd.MarkFlagRequired("profile")
	_ = cmd.MarkFlagRequired("topic")
	return cmd
}

func runPreview(cmd *cobra.Command, f previewFlags) error {
	p, _, err := loadSite(f.profile)
	if err != nil {
		return err
	}
	if f.link != "" && !slices.ContainsFunc(p.Links, func(l site.Link) bool { return l.Name == f.link }) {
		var names []string
		for _, l := range p.Links {
			names = append(names, l.Name)
		}
		return fmt.Errorf("%s has no link %q; there are: %s", f.profile, f.link, strings.Join(names, ", "))
	}
	broker := f.broker
	if broker == "" {
		_, port, _ := net.SplitHostPort(p.Broker.Listen)
		broker = net.JoinHostPort("127.0.0.1", port)
	}
	rs, err := newest(cmd.Context(), broker, f.topic, int64(f.records))
	if err != nil {
		return err
	}
	all := []replicator.Preview{}
	for _, l := range p.Links {
		if f.link != "" && l.Name != f.link {
			continue
		}
		got, err := replicator.DryRun(l, p.Site, f.topic, rs)
		if err != nil {
			return err
		}
		all = append(all, got...)
	}
	if len(all) == 0 {
		return fmt.Errorf("no link of the profile carries topic %s", f.topic)
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), all)
	}
	for _, p := range all {
		printPreview(cmd.OutOrStdout(), p)
	}
	return nil
}

func printPreview(out io.Writer, p replicator.Preview) {
	name := p.Link
	if p.Rule != "" {
		name += ", rule " + p.Rule
	}
	fmt.Fprintf(out, "%s: %s to %s\n", name, p.Topic, p.To)
	for _, r := range p.Records {
		what := fmt.Sprintf("%d@%d %s %s", r.Partition, r.Offset, r.Key, r.In)
		if r.Offset < 0 {
			what = fmt.Sprintf("%d, windows still open", r.Partition)
		}
		fmt.Fprintf(out, "  in   %s\n", what)
		for _, v := range r.Out {
			fmt.Fprintf(out, "  out  %s\n", v)
		}
		if r.Error != "" {
			fmt.Fprintf(out, "  dead letter: %s\n", r.Error)
		}
	}
	fmt.Fprintf(out, "  %d records, %d bytes in; %d records, %d bytes out", p.In.Records, p.In.Bytes, p.Out.Records, p.Out.Bytes)
	if p.Late > 0 {
		fmt.Fprintf(out, "; %d came after their window had closed", p.Late)
	}
	fmt.Fprintln(out)
}

// newest reads the last records of each partition of a topic, in order.
func newest(ctx context.Context, broker, topic string, n int64) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, previewWait)
	defer cancel()
	of := kafka.Config{Bootstrap: []string{broker}, ClientID: "wayside-link-preview"}
	cl, err := kafka.NewClient(of)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err1 := adm.ListCommittedOffsets(ctx, topic)
	starts, err2 := adm.ListStartOffsets(ctx, topic)
	if err := cmp.Or(err1, err2); err != nil { // they say the same
		return nil, fmt.Errorf("ask %s for topic %s: %w", broker, topic, err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for num, end := range ends[topic] {
		start := starts[topic][num]
		if err := cmp.Or(end.Err, start.Err); err != nil {
			return nil, fmt.Errorf("ask %s for topic %s: %w", broker, topic, err)
		}
		if at := max(start.Offset, end.Offset-n); at < end.Offset {
			from[num], left[num] = kgo.NewOffset().At(at), end.Offset
		}
	}
	if len(left) == 0 {
		return nil, fmt.Errorf("topic %s at %s has no records", topic, broker)
	}
	return readTo(ctx, of, topic, from, left)
}

func readTo(ctx context.Context, of kafka.Config, topic string, from map[int32]kgo.Offset, left map[int32]int64) (rs []*kgo.Record, err error) {
	cl, err := kafka.NewClient(of, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return nil, fmt.Errorf("read topic %s: %w", topic, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			end, wanted := left[r.Partition]
			if wanted && r.Offset < end && !r.Attrs.IsControl() {
				rs = append(rs, r)
			}
			if wanted && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	slices.SortStableFunc(rs, func(a, b *kgo.Record) int { return int(a.Partition - b.Partition) })
	return rs, nil
}
