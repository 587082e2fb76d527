package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTransactions: state, producer and partitions of transactional ids
// (KIP-664).
var describeTransactionsAPI = api{key: kmsg.DescribeTransactions, min: 0, max: 0, handle: typed(handleDescribeTransactions)}

func handleDescribeTransactions(s *Server, _ context.Context, r *request, req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
	for _, id := range once(req.TransactionalIDs, itself) {
		resp.TransactionStates = append(resp.TransactionStates, s.describeTransaction(r, id))
	}
	return resp
}

func (s *Server) describeTransaction(r *request, id string) kmsg.DescribeTransactionsResponseTransactionState {
	out := kmsg.NewDescribeTransactionsResponseTransactionState()
	out.TransactionalID, out.ProducerID, out.ProducerEpoch, out.StartTimestamp = id, -1, -1, -1
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTransactionalId, id); err != nil {
		out.ErrorCode = code(err)
		return out
	}
	t, parts, ok := s.Txns.Describe(id)
	if !ok {
		out.ErrorCode = kerr.TransactionalIDNotFound.Code
		return out
	}
	out.State, out.TimeoutMillis, out.StartTimestamp = string(t.State), t.TimeoutMs, t.StartMs
	out.ProducerID, out.ProducerEpoch = t.ProducerID, t.Epoch
	at := map[string]int{}
	for _, p := range parts {
		topic := s.Catalog.ByID(p.Topic)
		if topic == nil || !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, topic.Name) {
			continue
		}
		i, ok := at[topic.Name]
		if !ok {
			i = len(out.Topics)
			at[topic.Name] = i
			out.Topics = append(out.Topics, kmsg.DescribeTransactionsResponseTransactionStateTopic{Topic: topic.Name})
		}
		out.Topics[i].Partitions = append(out.Topics[i].Partitions, p.Partition)
	}
	return out
}
