package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/txn"
)

// EndTxn: commits or aborts a transaction. Answered when all its records and
// offsets are committed, durably, and visible; asked again, it is answered in
// the same way. From version 5 on every end brings a new epoch (KIP-890), so
// that nothing that is late can get into the next transaction.
//
// When a full or failing disk holds up the end for seconds, the answer is
// given as soon as the decision is durable; the rest follows by itself.
var endTxnAPI = api{key: kmsg.EndTxn, min: 0, max: 5, handle: typed(handleEndTxn)}

// bumpVersion of EndTxn changes the epoch.
const bumpVersion = 5

func handleEndTxn(s *Server, ctx context.Context, r *request, req *kmsg.EndTxnRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.EndTxnResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	err := s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, req.TransactionalID)
	if err == nil {
		resp.ProducerID, resp.ProducerEpoch, err = s.Txns.End(ctx, txn.End{
			Producer: txn.Producer{Txn: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch},
			Commit:   req.Commit, Bump: req.Version >= bumpVersion,
		})
		s.logTxn(&req.TransactionalID, "end a transaction", err)
	}
	resp.ErrorCode = txnCode(err, req.Version, 2, 4)
	return resp
}
