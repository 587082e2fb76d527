package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/txn"
)

// AddOffsetsToTxn: announces that a transaction will commit offsets of a
// group (KIP-98). Clients of KIP-890 commit them without.
var addOffsetsToTxnAPI = api{key: kmsg.AddOffsetsToTxn, min: 0, max: 4, handle: typed(handleAddOffsetsToTxn)}

func handleAddOffsetsToTxn(s *Server, ctx context.Context, r *request, req *kmsg.AddOffsetsToTxnRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
	err := s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, req.TransactionalID)
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group)
	}
	if err == nil {
		who := txn.Producer{Txn: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}
		err = s.Txns.AddGroup(ctx, who, req.Group)
		s.logTxn(&req.TransactionalID, "add a group to a transaction", err)
	}
	resp.ErrorCode = txnCode(err, req.Version, 2, 4)
	return resp
}
