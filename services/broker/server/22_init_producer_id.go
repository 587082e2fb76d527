package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/manifest"
)

// InitProducerID: an id and an epoch for a producer (KIP-98, KIP-360), never
// given twice, power cuts included. A transactional producer fences those that
// had its transactional id before; an open transaction of theirs is aborted
// first, and the client told to ask again.
//
// Transactions that another system commits (KIP-939, version 6) are not
// served: a prepared transaction would hold up read_committed consumers for as
// long as that system is away, which at a site may be for good.
var initProducerIDAPI = api{key: kmsg.InitProducerID, min: 0, max: 5, handle: typed(handleInitProducerID)}

func handleInitProducerID(s *Server, ctx context.Context, r *request, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	id, epoch, err := s.initProducerID(ctx, r, req)
	if err != nil {
		id, epoch = -1, -1
		resp.ErrorCode = txnCode(err, req.Version, 4, never)
		s.logTxn(req.TransactionalID, "hand out a producer id", err)
	}
	resp.ProducerID, resp.ProducerEpoch = id, epoch
	return resp
}

func (s *Server) initProducerID(ctx context.Context, r *request, req *kmsg.InitProducerIDRequest) (int64, int16, error) {
	if req.TransactionalID != nil {
		if err := s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, *req.TransactionalID); err != nil {
			return 0, 0, err
		}
		if s.FormatLevel() < manifest.LevelTransactions {
			// The version before cannot read a log that has seen a transaction.
			return 0, 0, kerr.CoordinatorLoadInProgress
		}
		return s.Txns.Init(ctx, txn.Init{
			Txn: *req.TransactionalID, Timeout: time.Duration(req.TransactionTimeoutMillis) * time.Millisecond,
			ID: req.ProducerID, Epoch: req.ProducerEpoch,
		})
	}
	// Whoever may write to some topic may do so idempotently (KIP-679).
	if !s.allowedSomewhere(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic) {
		if err := s.refused(r, kmsg.ACLOperationIdempotentWrite, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
			return 0, 0, err
		}
	}
	id, err := s.Meta.NextProducerID()
	return id, 0, err
}

// logTxn logs what is not the client's doing.
func (s *Server) logTxn(id *string, what string, err error) {
	if err != nil && code(err) == kerr.KafkaStorageError.Code {
		s.Log.Error(what, "transaction", deref(id), "err", err)
	}
}
