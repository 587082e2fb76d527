package server

import (
	"context"
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
)

// Metadata: this broker's address, and topics with their partitions.
//
// Versions 0 to 13; topics by id from 10 on. A topic that does not exist is
// made if the client allows it (always before version 4) and so does the
// configuration.
var metadataAPI = api{key: kmsg.Metadata, min: 0, max: 13, handle: typed(handleMetadata)}

// noAuthorizedOperations says that they were not asked for (KIP-430).
const noAuthorizedOperations = -1 << 31

func handleMetadata(s *Server, _ context.Context, r *request, req *kmsg.MetadataRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID = NodeID
	b.Host, b.Port = s.Advertise(r.conn)
	resp.Brokers = append(resp.Brokers, b)
	cluster := s.Meta.ClusterID()
	resp.ClusterID, resp.ControllerID = &cluster, NodeID
	resp.AuthorizedOperations = noAuthorizedOperations
	if req.Topics == nil || (req.Version == 0 && len(req.Topics) == 0) {
		for _, t := range s.Catalog.All() {
			resp.Topics = append(resp.Topics, describeTopic(t))
		}
		return resp
	}
	create := s.AutoCreate && (req.Version < 4 || req.AllowAutoTopicCreation)
	for _, rt := range req.Topics {
		resp.Topics = append(resp.Topics, s.metadataTopic(rt, create))
	}
	return resp
}

func (s *Server) metadataTopic(rt kmsg.MetadataRequestTopic, create bool) kmsg.MetadataResponseTopic {
	if rt.Topic == nil || (*rt.Topic == "" && rt.TopicID != meta.ID{}) {
		if t := s.Catalog.ByID(rt.TopicID); t != nil {
			return describeTopic(t)
		}
		return noTopic(rt, kerr.UnknownTopicID)
	}
	if t := s.Catalog.Get(*rt.Topic); t != nil {
		return describeTopic(t)
	}
	if err := catalog.CheckName(*rt.Topic); err != nil {
		return noTopic(rt, err)
	}
	if !create {
		return noTopic(rt, kerr.UnknownTopicOrPartition)
	}
	t, err := s.Catalog.Create(*rt.Topic, 1, nil)
	switch {
	case errors.Is(err, catalog.ErrExists): // another client was quicker
		if t := s.Catalog.Get(*rt.Topic); t != nil {
			return describeTopic(t)
		}
	case err == nil:
		s.Log.Info("topic made on first use", "topic", t.Name)
		return describeTopic(t)
	}
	s.Log.Warn("make a topic on first use", "topic", *rt.Topic, "err", err)
	return noTopic(rt, err)
}

func noTopic(rt kmsg.MetadataRequestTopic, err error) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.ErrorCode = rt.Topic, rt.TopicID, code(err)
	return out
}

// describeTopic lists a topic's partitions, all led by this broker. One whose
// log is not open has no leader.
func describeTopic(t *catalog.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = &t.Name, t.ID
	out.AuthorizedOperations = noAuthorizedOperations
	for i, p := range t.Partitions {
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition = int32(i)
		mp.Leader, mp.Replicas, mp.ISR = NodeID, []int32{NodeID}, []int32{NodeID}
		if p.Log == nil {
			mp.ErrorCode, mp.Leader = kerr.LeaderNotAvailable.Code, -1
			mp.ISR, mp.OfflineReplicas = nil, []int32{NodeID}
		} else {
			mp.LeaderEpoch = p.Log.Epoch()
		}
		out.Partitions = append(out.Partitions, mp)
	}
	return out
}

// clientHost is the address that a request came from, as Kafka writes it.
func clientHost(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	return "/" + host
}
