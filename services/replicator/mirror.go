package replicator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// The mirror is a group without members on the box's broker, whose committed
// offsets any Kafka tool can show.

func (l *link) group(n *lane) string {
	if n.name == "" {
		return groupPrefix + l.name
	}
	return groupPrefix + l.name + "." + n.name
}

// mirror commits on the box where partitions have moved; on error none, some
// or all are committed, and committing again is right.
func (l *link) mirror(ctx context.Context, exact bool) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	for _, n := range l.lanes {
		var offsets kadm.Offsets
		moved := map[*partition]position{}
		for k, p := range l.parts {
			if k.lane == n && p.next >= 0 && p.position != p.mirrored {
				moved[p] = p.position
				offsets.Add(kadm.Offset{Topic: k.topic, Partition: k.num, At: p.next, LeaderEpoch: p.epoch, Metadata: l.metadata(p, exact)})
			}
		}
		if len(moved) == 0 {
			continue
		}
		if err := l.srcAdm.CommitAllOffsets(ctx, l.group(n), offsets); err != nil {
			return fmt.Errorf("commit positions of group %s: %w", l.group(n), err)
		}
		for p, at := range moved {
			p.mirrored, p.onBox = at, &remembered{position: at, id: p.id, final: !exact}
		}
	}
	return nil
}

// mirrored are the positions that the box has of a lane.
func (l *link) mirrored(ctx context.Context, n *lane) (map[key]remembered, error) {
	if l.down {
		return nil, nil
	}
	got, err := l.srcAdm.FetchOffsets(ctx, l.group(n))
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil // Kafka answers "no offsets", others that there is no group
	}
	if err != nil {
		return nil, fmt.Errorf("read positions of group %s: %w", l.group(n), err)
	}
	all := map[key]remembered{}
	for _, ps := range got {
		for _, o := range ps {
			if o.Err != nil {
				return nil, fmt.Errorf("read position of %s/%d in group %s: %w", o.Topic, o.Partition, l.group(n), o.Err)
			}
			if o.At >= 0 {
				all[key{n, o.Topic, o.Partition}] = parseMetadata(o.At, o.LeaderEpoch, o.Metadata)
			}
		}
	}
	return all, nil
}

// metadata of a partition's commit, with the map of its offsets where groups
// are to go on at the destination after a restart.
func (l *link) metadata(p *partition, exact bool) string {
	s := metadata(p.position, p.id, exact)
	if len(l.cfg.Groups) > 0 && len(p.pairs) > 0 {
		s += " map=" + p.pairs.text()
	}
	return s
}

// metadata of a commit is "dest=<offset> again=<records>", then "id=<topic
// id>" and "closed=<ms>" where known, then "mirror" if the destination keeps the position itself.
func metadata(at position, id kadm.TopicID, exact bool) string {
	s := fmt.Sprintf("dest=%d again=%d", at.dest, at.again)
	if id != (kadm.TopicID{}) {
		s += " id=" + id.String()
	}
	if at.closed != 0 {
		s += fmt.Sprintf(" closed=%d", at.closed)
	}
	if at.from != 0 {
		s += fmt.Sprintf(" from=%d", at.from)
	}
	if exact {
		s += " mirror"
	}
	return s
}

// parseMetadata reads what metadata wrote; anything else is no knowledge.
func parseMetadata(next int64, epoch int32, text string) remembered {
	at := remembered{position: position{next: next, epoch: epoch}, final: true}
	if n, err := fmt.Sscanf(text, "dest=%d again=%d", &at.dest, &at.again); n != 2 || err != nil || at.dest < 0 || at.again < 0 {
		at.dest, at.again = -1, 0
	}
	for _, word := range strings.Fields(text) {
		if id, ok := strings.CutPrefix(word, "id="); ok {
			at.id = parseTopicID(id)
		}
		if ms, ok := strings.CutPrefix(word, "closed="); ok {
			at.closed, _ = strconv.ParseInt(ms, 10, 64)
		}
		if from, ok := strings.CutPrefix(word, "from="); ok {
			at.from, _ = strconv.ParseInt(from, 10, 64)
			at.from = max(at.from, 0)
		}
		if text, ok := strings.CutPrefix(word, "map="); ok {
			at.pairs = parsePairs(text)
		}
		at.final = at.final && word != "mirror"
	}
	return at
}
