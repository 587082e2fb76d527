package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// join makes partitions part of the transaction.
func (s *stamper) join(ctx context.Context, all []parcel) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = s.l.txnID(), s.id, s.epoch
	nums := map[string]map[int32]bool{}
	for _, one := range all {
		if nums[one.p.to] == nil {
			nums[one.p.to] = map[int32]bool{}
		}
		nums[one.p.to][one.p.num] = true
	}
	for topic, of := range nums {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic = topic
		for num := range of {
			t.Partitions = append(t.Partitions, num)
		}
		req.Topics = append(req.Topics, t)
	}
	for try := 1; ; try++ {
		err := s.joinOnce(ctx, req)
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

func (s *stamper) joinOnce(ctx context.Context, req *kmsg.AddPartitionsToTxnRequest) error {
	req.Transactions = nil // as the client leaves it
	got, err := req.RequestWith(ctx, s.l.dst)
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
