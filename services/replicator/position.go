package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// position is what is remembered of a partition.
type position struct {
	next int64 // source offset after the last acknowledged record
	dest int64 // destination offset after it, -1 if unknown
	// again is how many records from next on the destination holds already:
	// they were on their way when something broke, and are sent again.
	again int64
}

// positions keeps a link's positions as the committed offsets of a group
// without members on the box's broker: any Kafka tool can show them, and
// they live and die with the log they speak of. What is known of the
// destination is in the commit's metadata, "dest=<offset> again=<records>";
// comparing it with the destination's end tells after a crash how much is
// sent twice.
type positions struct {
	adm   *kadm.Client
	group string
}

func (s positions) load(ctx context.Context) (map[key]position, error) {
	got, err := s.adm.FetchOffsets(ctx, s.group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil // Kafka answers "no offsets", others that there is no group
	}
	if err != nil {
		return nil, fmt.Errorf("read positions of group %s: %w", s.group, err)
	}
	all := map[key]position{}
	for _, ps := range got {
		for _, o := range ps {
			if o.Err != nil {
				return nil, fmt.Errorf("read position of %s/%d in group %s: %w", o.Topic, o.Partition, s.group, o.Err)
			}
			if o.At >= 0 {
				all[key{o.Topic, o.Partition}] = parsePosition(o.At, o.Metadata)
			}
		}
	}
	return all, nil
}

// save commits; on error none, some or all are committed, and saving again
// is right.
func (s positions) save(ctx context.Context, all map[key]position) error {
	var offsets kadm.Offsets
	for k, p := range all {
		offsets.Add(kadm.Offset{
			Topic: k.topic, Partition: k.num, At: p.next, LeaderEpoch: -1, Metadata: p.metadata(),
		})
	}
	if err := s.adm.CommitAllOffsets(ctx, s.group, offsets); err != nil {
		return fmt.Errorf("commit positions of group %s: %w", s.group, err)
	}
	return nil
}

const metadataFormat = "dest=%d again=%d"

func (p position) metadata() string { return fmt.Sprintf(metadataFormat, p.dest, p.again) }

// parsePosition reads what metadata wrote; anything else is no knowledge.
func parsePosition(next int64, metadata string) position {
	p := position{next: next}
	if n, err := fmt.Sscanf(metadata, metadataFormat, &p.dest, &p.again); n != 2 || err != nil || p.dest < 0 || p.again < 0 {
		p.dest, p.again = -1, 0
	}
	return p
}
