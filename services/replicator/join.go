package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// join makes partitions of the destination part of the transaction.
func (l *link) join(ctx context.Context, id int64, epoch int16, of map[destKey]bool) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = l.txnID(), id, epoch
	for topic, nums := range byTopic(maps.Keys(of)) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = topic, nums
		req.Topics = append(req.Topics, t)
	}
	for try := 1; ; try++ {
		err := l.joinOnce(ctx, req)
		// The markers of the transaction before may still be on their way.
		if !errors.Is(err, kerr.ConcurrentTransactions) || try > 100 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *link) joinOnce(ctx context.Context, req *kmsg.AddPartitionsToTxnRequest) error {
	req.Transactions = nil // as the client leaves it
	got, err := req.RequestWith(ctx, l.dst)
	if err != nil {
		return fmt.Errorf("add partitions to the transaction: %w", err)
	}
	for _, t := range got.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.OperationNotAttempted) {
				return fmt.Errorf("add %s/%d to the transaction: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
