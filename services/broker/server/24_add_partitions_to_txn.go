package server

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/txn"
)

// AddPartitionsToTxn: makes partitions part of a transaction, before anything
// is produced to them (KIP-98). Answered when that is durable. If one cannot
// be added, none is.
//
// From version 4 on it is for brokers (KIP-890), several transactions at once,
// or only asking; it takes the rights of one.
var addPartitionsToTxnAPI = api{key: kmsg.AddPartitionsToTxn, min: 0, max: 5, handle: typed(handleAddPartitionsToTxn)}

func handleAddPartitionsToTxn(s *Server, ctx context.Context, r *request, req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if req.Version < 4 {
		a := s.newAddition(r, txn.Producer{Txn: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch})
		for _, t := range req.Topics {
			a.want(t.Topic, t.Partitions)
		}
		resp.Topics = a.run(ctx, req.Version)
		return resp
	}
	if err := s.refused(r, kmsg.ACLOperationClusterAction, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	for _, rt := range req.Transactions {
		a := s.newAddition(r, txn.Producer{Txn: rt.TransactionalID, ID: rt.ProducerID, Epoch: rt.ProducerEpoch})
		a.verify, a.broker = rt.VerifyOnly, true
		for _, t := range rt.Topics {
			a.want(t.Topic, t.Partitions)
		}
		st := kmsg.AddPartitionsToTxnResponseTransaction{TransactionalID: rt.TransactionalID}
		for _, t := range a.run(ctx, req.Version) {
			st.Topics = append(st.Topics, kmsg.AddPartitionsToTxnResponseTransactionTopic{Topic: t.Topic, Partitions: partitionResults(t.Partitions)})
		}
		resp.Transactions = append(resp.Transactions, st)
	}
	return resp
}

func partitionResults(in []kmsg.AddPartitionsToTxnResponseTopicPartition) (out []kmsg.AddPartitionsToTxnResponseTransactionTopicPartition) {
	for _, p := range in {
		out = append(out, kmsg.AddPartitionsToTxnResponseTransactionTopicPartition{Partition: p.Partition, ErrorCode: p.ErrorCode})
	}
	return out
}

// addition is one transaction's part of the request.
type addition struct {
	s              *Server
	r              *request
	who            txn.Producer
	verify, broker bool
	asked          []asked
}

type asked struct {
	topic string
	part  int32
	ref   meta.TxnPartition
	err   error
}

func (s *Server) newAddition(r *request, who txn.Producer) *addition {
	return &addition{s: s, r: r, who: who}
}

// want asks for some partitions of a topic.
func (a *addition) want(topic string, parts []int32) {
	t := a.s.Catalog.Get(topic)
	var refusal error
	if !a.broker {
		refusal = a.s.refused(a.r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, topic)
	}
	for _, part := range parts {
		w := asked{topic: topic, part: part, err: refusal}
		switch {
		case refusal != nil:
		case t == nil || part < 0 || int(part) >= len(t.Partitions):
			w.err = kerr.UnknownTopicOrPartition
		default:
			w.ref = meta.TxnPartition{Topic: t.ID, Partition: part}
		}
		a.asked = append(a.asked, w)
	}
}

func (a *addition) run(ctx context.Context, version int16) []kmsg.AddPartitionsToTxnResponseTopic {
	a.decide(ctx)
	var out []kmsg.AddPartitionsToTxnResponseTopic
	for _, w := range a.asked {
		if n := len(out); n == 0 || out[n-1].Topic != w.topic {
			out = append(out, kmsg.AddPartitionsToTxnResponseTopic{Topic: w.topic})
		}
		t := &out[len(out)-1]
		t.Partitions = append(t.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{
			Partition: w.part, ErrorCode: txnCode(w.err, version, 2, 5),
		})
	}
	return out
}

// decide adds all or nothing.
func (a *addition) decide(ctx context.Context) {
	var err error
	if !a.broker {
		err = a.s.refused(a.r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, a.who.Txn)
	}
	var parts []meta.TxnPartition
	bad := false
	for _, w := range a.asked {
		parts = append(parts, w.ref)
		bad = bad || w.err != nil
	}
	switch {
	case err != nil:
	case a.verify:
		a.lacking(parts)
		return
	case bad:
		err = kerr.OperationNotAttempted
	default:
		err = a.s.Txns.Add(ctx, a.who, parts)
	}
	for i := range a.asked {
		if w := &a.asked[i]; w.err == nil || !errors.Is(err, kerr.OperationNotAttempted) {
			w.err = err
		}
	}
	a.s.logTxn(&a.who.Txn, "add partitions to a transaction", err)
}

// lacking answers for each partition whether it is in the transaction.
func (a *addition) lacking(parts []meta.TxnPartition) {
	lack, err := a.s.Txns.Lacking(a.who, parts)
	missing := map[meta.TxnPartition]bool{}
	for _, p := range lack {
		missing[p] = true
	}
	for i := range a.asked {
		switch w := &a.asked[i]; {
		case w.err != nil:
		case err != nil:
			w.err = err
		case missing[w.ref]:
			w.err = txn.ErrNotAdded
		}
	}
}
