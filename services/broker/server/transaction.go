package server

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/txn"
)

// txnCode is coordinatorCode for requests about transactions. Clients of
// versions before fenced know only of an invalid epoch; those before
// abortable only of an invalid state.
func txnCode(err error, version, fenced, abortable int16) int16 {
	switch {
	case errors.Is(err, txn.ErrNotAdded) && version >= abortable:
		return kerr.TransactionAbortable.Code
	case errors.Is(err, kerr.ProducerFenced) && version < fenced:
		return kerr.InvalidProducerEpoch.Code
	}
	return coordinatorCode(err)
}

// never is for requests of which no version knows a code.
const never = 1<<15 - 1

// enterTransaction asks the coordinator for all transactional batches of a
// request at once: what one request adds is one durable change. Until leave is
// called the transaction does not end.
func (s *Server) enterTransaction(ctx context.Context, version int16, req *produceRequest) (leave func()) {
	var who txn.Producer
	var parts []meta.TxnPartition
	each := func(do func(id meta.ID, p *producePart)) {
		for i := range req.topics {
			t := &req.topics[i]
			for j := range t.parts {
				if p := &t.parts[j]; p.err == nil && p.head.Transactional() {
					do(t.id, p)
				}
			}
		}
	}
	each(func(id meta.ID, p *producePart) {
		mine := txn.Producer{Txn: *req.txn, ID: p.head.ProducerID, Epoch: p.head.ProducerEpoch}
		if len(parts) == 0 {
			who = mine
		}
		if mine != who {
			p.err = kerr.InvalidProducerIDMapping // one transaction has one producer
			return
		}
		parts = append(parts, meta.TxnPartition{Topic: id, Partition: p.num})
	})
	if len(parts) == 0 {
		return func() {}
	}
	leave, err := s.Txns.Append(ctx, who, parts, version >= implicitVersion)
	if err == nil {
		return leave
	}
	err = produceTxnError(version, err)
	each(func(_ meta.ID, p *producePart) { p.err = err })
	return func() {}
}

// produceTxnError says in Produce's words what the coordinator said. The end
// of the former transaction that is still under way passes, and
// NotEnoughReplicas is what every producer tries again after.
func produceTxnError(version int16, err error) error {
	switch {
	case errors.Is(err, txn.ErrNotAdded) && version >= abortableVersion:
		return kerr.TransactionAbortable
	case errors.Is(err, kerr.ProducerFenced):
		return kerr.InvalidProducerEpoch
	case errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.CoordinatorNotAvailable):
		return kerr.NotEnoughReplicas
	}
	return err
}
