package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/txn"
)

// TxnOffsetCommit: where a group goes on once the transaction is committed.
// Answered when it is durable; the group sees it with the end of the
// transaction, and not at all if that is an abort. Until then a consumer that
// asks for stable offsets is told to wait (KIP-447).
//
// From version 3 on the group's member and generation are checked, if they
// are given; from version 5 on nothing has to be announced (KIP-890); version
// 6 names topics by id.
var txnOffsetCommitAPI = api{key: kmsg.TxnOffsetCommit, min: 0, max: 6, handle: typed(handleTxnOffsetCommit)}

const (
	txnImplicitVersion = 5
	txnTopicIDVersion  = 6
)

func handleTxnOffsetCommit(s *Server, ctx context.Context, r *request, req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	each, whole := s.mayTxnCommit(r, req)
	var offsets []meta.Offset
	now := time.Now().UnixMilli()
	for _, rt := range req.Topics {
		t, refusal := s.groupTopic(r, kmsg.ACLOperationRead, rt.Topic, rt.TopicID, req.Version >= txnTopicIDVersion)
		st := kmsg.TxnOffsetCommitResponseTopic{Topic: rt.Topic, TopicID: rt.TopicID}
		for _, rp := range rt.Partitions {
			o := meta.Offset{
				Partition: rp.Partition, Offset: rp.Offset,
				LeaderEpoch: rp.LeaderEpoch, Metadata: deref(rp.Metadata), CommitMs: now,
			}
			err := whole
			if err == nil {
				err = refusal
			}
			if err == nil {
				o.Topic = t.Name
				err = s.mayKeep(req.Group, t, o, each)
			}
			if err == nil {
				offsets = append(offsets, o)
			}
			st.Partitions = append(st.Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{
				Partition: rp.Partition, ErrorCode: txnCode(err, req.Version, never, 4),
			})
		}
		resp.Topics = append(resp.Topics, st)
	}
	if len(offsets) == 0 {
		return resp
	}
	who := txn.Producer{Txn: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}
	err := s.Txns.CommitOffsets(ctx, who, req.Group, offsets, req.Version >= txnImplicitVersion)
	s.logTxn(&req.TransactionalID, "commit offsets in a transaction", err)
	if err != nil {
		failTxnCommits(resp, txnCode(err, req.Version, never, 4))
	}
	return resp
}

// mayTxnCommit says whether the client may commit at all; each, if it is not
// nil, says it of a partition.
func (s *Server) mayTxnCommit(r *request, req *kmsg.TxnOffsetCommitRequest) (each func(meta.ID, int32) error, err error) {
	if err := s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, req.TransactionalID); err != nil {
		return nil, err
	}
	if err := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group); err != nil {
		return nil, err
	}
	if req.Group == "" {
		return nil, kerr.InvalidGroupID
	}
	return s.Groups.MayCommitEach(group.Commit{Transactional: true, Member: group.Member{
		Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation,
	}})
}

func failTxnCommits(resp *kmsg.TxnOffsetCommitResponse, code int16) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
}
