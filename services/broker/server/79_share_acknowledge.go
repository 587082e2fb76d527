package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/share"
)

// ShareAcknowledge: what a member of a share group says of records that it has
// acquired: accepted, released to be delivered again, rejected, or kept for
// longer (KIP-1222). Answered when it is durable.
//
// Version 0 was Kafka's early access.
var shareAcknowledgeAPI = api{key: kmsg.ShareAcknowledge, min: 1, max: 2, handle: handleShareAcknowledge}

func handleShareAcknowledge(s *Server, _ context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.ShareAcknowledgeRequest)
	resp := req.ResponseKind().(*kmsg.ShareAcknowledgeResponse)
	group := deref(req.GroupID)
	resp.AcquisitionLockTimeoutMillis = int32(s.Shares.LockDuration(group).Milliseconds())
	fail := func(err error) {
		resp.ErrorCode, resp.ErrorMessage, resp.Topics = code(err), message(err), nil
	}
	session, err := s.acknowledging(r, req, group)
	if err != nil {
		fail(err)
		return answer{msg: resp}, nil
	}
	for _, rt := range req.Topics {
		st := kmsg.ShareAcknowledgeResponseTopic{TopicID: rt.TopicID}
		for _, rp := range rt.Partitions {
			acks := make([]share.Ack, len(rp.AcknowledgementBatches))
			for i, b := range rp.AcknowledgementBatches {
				acks[i] = share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes}
			}
			sp := kmsg.NewShareAcknowledgeResponseTopicPartition()
			sp.Partition, sp.CurrentLeader.LeaderID, sp.CurrentLeader.LeaderEpoch = rp.Partition, -1, -1
			key := share.Partition{Topic: rt.TopicID, Num: rp.Partition}
			sp.ErrorCode = code(s.acknowledge(r, session, key, acks, req.IsRenewAck))
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if req.ShareSessionEpoch == finalEpoch {
		r.from.endShares(session)
	}
	return answer{msg: resp, later: &waiting[error]{ch: s.Shares.Settled(), none: kerr.CoordinatorNotAvailable, fill: func(err error) {
		if err != nil {
			fail(err)
		}
	}}}, nil
}

// acknowledging finds the session of a request. It cannot begin one: that has
// acquired nothing.
func (s *Server) acknowledging(r *request, req *kmsg.ShareAcknowledgeRequest, group string) (*share.Session, error) {
	member := deref(req.MemberID)
	if err := s.mayShare(r, group, member); err != nil {
		return nil, err
	}
	if req.ShareSessionEpoch == 0 {
		return nil, kerr.InvalidShareSessionEpoch
	}
	return s.Shares.Resume(r.from, group, member, req.ShareSessionEpoch)
}

// acknowledge takes what a session says of records of one partition.
func (s *Server) acknowledge(r *request, session *share.Session, key share.Partition, acks []share.Ack, renews bool) error {
	t, err := s.groupTopic(r, kmsg.ACLOperationRead, "", key.Topic, true)
	if err != nil {
		return err
	}
	log, err := logOf(t, key.Num)
	if err != nil {
		return err
	}
	return session.Acknowledge(key, log, acks, renews)
}
