package replicator

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A destination may say that a transaction is over and have left its records
// undecided. Apache Kafka does (seen with 4.3.1, 2 of 9 times) when it is
// killed after it has noted a commit and before it has written the markers: at
// its next start it reads the note while it knows no leaders yet, takes the
// partitions for deleted ones and calls the transaction complete. What lies
// there is hidden from readers until the same producer ends another transaction
// in the partition, and then becomes what that one becomes. Positions read as
// readers see them would then be too old, and records come twice.
//
// So positions are read with what is undecided, and what is left of this link
// is decided first, in every partition of it: as the destination had noted it,
// or else given up, since no reader has seen it and it will come again.

// decided passes records on as their transactions are committed, and keeps
// those of transactions without an end, by producer.
type decided struct {
	open map[int64][]*kgo.Record
	do   func(*kgo.Record)
}

// take wants every record of a partition in order, also the markers.
func (d *decided) take(r *kgo.Record) {
	switch {
	case r.Attrs.IsControl():
		if isCommit(r.Key) {
			for _, one := range d.open[r.ProducerID] {
				d.do(one)
			}
		}
		delete(d.open, r.ProducerID)
	case r.Attrs.IsTransactional():
		d.open[r.ProducerID] = append(d.open[r.ProducerID], r)
	default:
		d.do(r)
	}
}

// isCommit reads the key of a marker (KIP-98): two int16, version and type.
func isCommit(key []byte) bool {
	return len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 1
}

// ask notes how the destination ends the link's last transaction, as long as
// no new producer has made it forget that. A destination that does not say
// (before Kafka 3.0, or not allowed) is taken to give it up.
func (d *ledger) ask(ctx context.Context) {
	id := d.l.txnID()
	got, err := kadm.NewClient(d.l.dst).DescribeTransactions(ctx, id)
	switch state := got[id].State; {
	case err != nil:
		d.commits = false
	case state != "Empty": // else this link has asked before, and began a producer since
		d.commits = state == "PrepareCommit" || state == "CompleteCommit"
	}
}

// undecided is what the destination has left of an earlier transaction, and
// what becomes of it.
type undecided struct {
	parts  map[destKey]bool
	commit bool
}

// fate says what becomes of what is hidden, from an offset on: positions know
// what was committed. What was not is ended by itself, later.
func (d *ledger) fate(hidden map[destKey]int64) *undecided {
	known := d.reached()
	of := map[bool]map[destKey]bool{true: {}, false: {}}
	for k, from := range hidden {
		of[from < known[k]][k] = true
	}
	commit := len(of[true]) > 0
	return &undecided{of[commit], commit}
}

// reached are the partitions of the destination that the link has written to,
// and the offsets behind what is known to be committed there. Another source's
// positions may be in the same log, and are about another producer.
func (d *ledger) reached() map[destKey]int64 {
	of := map[destKey]int64{}
	for key, at := range d.known {
		k, ok := destinationOf(key)
		if source, _, _ := strings.Cut(key, "/"); ok && source == d.l.source {
			of[k] = max(of[k], at.dest)
		}
	}
	return of
}

// decide ends what is left of an earlier transaction, by one that has all its
// partitions in it and nothing else. The client knows nothing of it: a new one
// has to follow.
func (l *link) decide(ctx context.Context, left *undecided) error {
	id, epoch, err := l.dst.ProducerID(ctx)
	if err != nil {
		return err
	}
	l.log.Warn("the destination left records of a transaction undecided", "partitions", len(left.parts), "commit", left.commit)
	if err := l.join(ctx, id, epoch, left.parts); err != nil {
		return err
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = l.txnID(), id, epoch, left.commit
	got, err := req.RequestWith(ctx, l.dst)
	if err == nil {
		err = kerr.ErrorForCode(got.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end a transaction that was left undecided: %w", err)
	}
	return nil
}

// partitionsOf are those of the destination that a transaction of these
// positions is in, and exist.
func (l *link) partitionsOf(ctx context.Context, positions []*kgo.Record) (map[destKey]bool, error) {
	own := destKey{l.positionLog(), 0}
	named := map[string][]destKey{}
	for _, r := range positions {
		if k, ok := destinationOf(string(r.Key)); ok {
			named[k.topic] = append(named[k.topic], k)
		}
	}
	have, err := kadm.NewClient(l.dst).ListTopics(ctx, sortedKeys(named)...)
	if err != nil {
		return nil, fmt.Errorf("list topics of the destination: %w", err)
	}
	parts := map[destKey]bool{own: true}
	for topic, keys := range named {
		for _, k := range keys {
			if _, ok := have[topic].Partitions[k.num]; ok {
				parts[k] = true
			}
		}
	}
	return parts, nil
}

// destinationOf reads what positionKey has made.
func destinationOf(key string) (destKey, bool) {
	fields := strings.Split(key, "/")
	if len(fields) < 4 {
		return destKey{}, false
	}
	num, err := strconv.ParseInt(fields[2], 10, 32)
	return destKey{fields[3], int32(num)}, err == nil && num >= 0
}
