package replicator

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// The log of positions is a compacted topic of one partition at the
// destination, one for each link, docs/formats/link-positions.md. It is a
// topic and not a group's offsets, since a group without members is forgotten
// after a week (offsets.retention.minutes), and a ship may be away for two.
const (
	ownTopics   = "wayside-link." // begins the names of our own topics; no pattern matches them
	txnPrefix   = "wayside-link."
	groupPrefix = "wayside.link."
)

func (l *link) positionLog() string { return ownTopics + l.site + "." + l.name }

// txnID holds the source cluster: two boxes that were given one name do not
// fence each other, and each has positions of its own.
func (l *link) txnID() string { return txnPrefix + l.site + "." + l.name + "." + l.source }

// positionKey names what a position is of.
func (l *link) positionKey(p *partition) string {
	k := fmt.Sprintf("%s/%s/%d/%s", l.source, p.topic, p.num, p.to)
	if p.lane.first != nil {
		k += "/" + newestKey
	}
	return k
}

// remembered is a position and what it is of.
type remembered struct {
	position
	id kadm.TopicID // of the source topic, zero if unknown
	// final is false for a position on the box that follows the destination's,
	// and so may be older.
	final bool
	pairs pairs // of the box only
}

// positionRecord is a record of the log of positions.
type positionRecord struct {
	Version int    `json:"v"`
	Next    int64  `json:"next"` // source offset of the first record that is not carried
	Epoch   int32  `json:"epoch"`
	Dest    int64  `json:"dest"`         // destination offset after the last carried record, -1 if unknown
	ID      string `json:"id,omitempty"` // of the source topic
	// Closed is up to where summaries of windows have been carried, in ms
	// since 1970.
	Closed int64 `json:"closed,omitempty"`
	// From is where the lane of the newest records began, 0 if it rests.
	From int64 `json:"from,omitempty"`
}

const positionVersion = 1

func (l *link) writePositions(ctx context.Context, all map[*partition]position) error {
	var rs []*kgo.Record
	for p, at := range all {
		v, err := json.Marshal(positionRecord{positionVersion, at.next, at.epoch, at.dest, topicID(p.id), at.closed, at.from})
		if err != nil {
			return err
		}
		rs = append(rs, &kgo.Record{Topic: l.positionLog(), Key: []byte(l.positionKey(p)), Value: v})
	}
	var failed error
	for _, r := range rs {
		l.dst.Produce(ctx, r, func(_ *kgo.Record, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	err := l.dst.Flush(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, failed)
}

// parsePosition reads a record's value; false if it is not one that is
// understood.
func parsePosition(value []byte) (remembered, bool) {
	var v positionRecord
	if err := json.Unmarshal(value, &v); err != nil || v.Version != positionVersion || v.Next < 0 {
		return remembered{}, false
	}
	at := remembered{position: position{next: v.Next, epoch: v.Epoch, dest: max(v.Dest, -1), closed: v.Closed, from: max(v.From, 0)}, final: true}
	at.id = parseTopicID(v.ID)
	return at, true
}

// parseTopicID is zero for what is no id.
func parseTopicID(s string) (id kadm.TopicID) {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

func topicID(id kadm.TopicID) string {
	if id == (kadm.TopicID{}) {
		return ""
	}
	return id.String()
}

// ensurePositionLog makes the topic. Segments are small, or a start would
// read all of the gigabyte that compaction leaves alone.
func (l *link) ensurePositionLog(ctx context.Context) error {
	err := kafka.EnsureTopic(ctx, l.dst, l.positionLog(), map[string]string{
		"cleanup.policy":            "compact",
		"segment.bytes":             "1048576",
		"min.cleanable.dirty.ratio": "0.1",
	})
	if err != nil {
		return fmt.Errorf("create topic %s at the destination: %w", l.positionLog(), err)
	}
	return nil
}

// readPositions makes d.known what the log holds. A log that is
// shorter than before was made anew. What the producer has left undecided is
// returned, and is not known.
func (l *link) readPositions(ctx context.Context, d *ledger, producer int64) (left []*kgo.Record, err error) {
	name := l.positionLog()
	adm := kadm.NewClient(l.dst)
	end, err1 := offsetOf(ctx, adm.ListEndOffsets, name)
	start, err2 := offsetOf(ctx, adm.ListStartOffsets, name)
	stable, err3 := offsetOf(ctx, adm.ListCommittedOffsets, name) // after end: what it reaches is decided
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", name, err)
	}
	if d.logged == nil || end < d.read {
		d.logged, d.read = map[string]remembered{}, 0
	}
	know := func(r *kgo.Record) {
		if p, ok := parsePosition(r.Value); ok && !r.Attrs.IsControl() {
			d.logged[string(r.Key)] = p
		}
	}
	from := max(d.read, start)
	var hooks []kgo.Opt
	if !l.down {
		hooks = append(hooks, kgo.WithHooks(traffic{l})) // an answer to this says nothing of what a start needs else
	}
	if stable >= end { // nothing is undecided: no need to see the markers
		err = readLog(ctx, l.to(), name, from, end, know, append(hooks, kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	} else {
		all := decided{open: map[int64][]*kgo.Record{}, do: know}
		err = readLog(ctx, l.to(), name, from, end, all.take, append(hooks, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))...)
		left = all.open[producer]
	}
	if err != nil || len(left) > 0 {
		return left, err // read again from there
	}
	d.known, d.read = maps.Clone(d.logged), end
	return nil, nil
}

// offsetOf is that of partition 0 of a topic.
func offsetOf(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topic string) (int64, error) {
	all, err := list(ctx, topic)
	if err == nil {
		err = all.Error()
	}
	o, _ := all.Lookup(topic, 0)
	return o.Offset, err
}

// readLog reads partition 0 of a topic between two offsets, with the ends of
// transactions.
func readLog(ctx context.Context, of kafka.Config, topic string, from, end int64, do func(*kgo.Record), opts ...kgo.Opt) error {
	cl, err := kafka.NewClient(of, append(opts,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}}),
		kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for from < end {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if from = r.Offset + 1; r.Offset < end {
				do(r)
			}
		})
	}
	return nil
}
