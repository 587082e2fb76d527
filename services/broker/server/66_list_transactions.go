package server

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

// ListTransactions: all transactional ids with their state (KIP-664), by
// state, producer id, age (KIP-994) or pattern (KIP-1152).
var listTransactionsAPI = api{key: kmsg.ListTransactions, min: 0, max: 2, handle: typed(handleListTransactions)}

var txnStates = []meta.TxnState{
	meta.TxnEmpty, meta.TxnOngoing, meta.TxnPrepareCommit, meta.TxnPrepareAbort,
	meta.TxnCompleteCommit, meta.TxnCompleteAbort, meta.TxnDead, "PrepareEpochFence",
}

func handleListTransactions(s *Server, _ context.Context, r *request, req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
	pattern, err := group.Regexp(deref(req.TransactionalIDPattern))
	if err != nil {
		resp.ErrorCode = kerr.InvalidRegularExpression.Code
		return resp
	}
	for _, f := range req.StateFilters {
		if !slices.Contains(txnStates, meta.TxnState(f)) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, f)
		}
	}
	now := time.Now().UnixMilli()
	for _, t := range s.Txns.List() {
		age := now - t.StartMs
		switch {
		case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, string(t.State)),
			len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, t.ProducerID),
			req.Version >= 1 && req.DurationFilterMillis >= 0 && (!t.State.Open() || age <= req.DurationFilterMillis),
			deref(req.TransactionalIDPattern) != "" && !pattern.MatchString(t.ID),
			!s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTransactionalId, t.ID):
			continue
		}
		resp.TransactionStates = append(resp.TransactionStates, kmsg.ListTransactionsResponseTransactionState{
			TransactionalID: t.ID, ProducerID: t.ProducerID, TransactionState: string(t.State),
		})
	}
	return resp
}
