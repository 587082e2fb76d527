package server

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
)

// Metadata: this broker's address, and topics with their partitions.
//
// A topic that does not exist is made if the client allows it (always before
// version 4), the client may create it, and auto.create.topics.enable is on.
var metadataAPI = api{key: kmsg.Metadata, min: 0, max: 13, handle: typed(handleMetadata)}

// noAuthorizedOperations says that they were not asked for (KIP-430).
const noAuthorizedOperations = -1 << 31

func handleMetadata(s *Server, _ context.Context, r *request, req *kmsg.MetadataRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID = NodeID
	b.Host, b.Port = s.advertise(r)
	resp.Brokers = append(resp.Brokers, b)
	cluster := s.Meta.ClusterID()
	resp.ClusterID, resp.ControllerID = &cluster, NodeID
	resp.AuthorizedOperations = noAuthorizedOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeCluster, clusterName)
	}
	if req.Topics == nil || (req.Version == 0 && len(req.Topics) == 0) {
		for _, t := range s.Catalog.All() {
			if s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
				resp.Topics = append(resp.Topics, s.describeTopic(r, req, t))
			}
		}
		return resp
	}
	type asked struct {
		name string
		id   meta.ID
	}
	req.Topics = once(req.Topics, func(t *kmsg.MetadataRequestTopic) asked { return asked{deref(t.Topic), t.TopicID} })
	failed := map[string]error{}
	if req.Version < 4 || req.AllowAutoTopicCreation {
		failed = s.autoCreate(r, req.Topics)
	}
	for _, rt := range req.Topics {
		resp.Topics = append(resp.Topics, s.metadataTopic(r, req, rt, failed))
	}
	return resp
}

// autoCreate makes the topics that are asked for, absent and allowed, and
// returns why some could not be made.
func (s *Server) autoCreate(r *request, asked []kmsg.MetadataRequestTopic) map[string]error {
	failed := map[string]error{}
	if s.Catalog.BrokerValue("auto.create.topics.enable") != "true" {
		return failed
	}
	var absent []catalog.New
	for _, rt := range asked {
		if rt.Topic == nil || *rt.Topic == "" || s.Catalog.Get(*rt.Topic) != nil {
			continue
		}
		switch {
		case !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, *rt.Topic): // told later
		case !s.mayCreate(r, *rt.Topic):
			failed[*rt.Topic] = kerr.TopicAuthorizationFailed
		default:
			absent = append(absent, catalog.New{Name: *rt.Topic, Partitions: s.defaultPartitions()})
		}
	}
	if len(absent) == 0 {
		return failed
	}
	for i, made := range s.Catalog.CreateAll(absent) {
		switch name := absent[i].Name; {
		case made.Err == nil:
			s.Log.Info("topic made on first use", "topic", name)
		case s.Catalog.Get(name) == nil: // else another client was quicker
			if !errors.Is(made.Err, catalog.ErrName) { // the client is told, and asks for it again every second
				s.Log.Warn("make a topic on first use", "topic", name, "err", made.Err)
			}
			failed[name] = made.Err
		}
	}
	return failed
}

func (s *Server) mayCreate(r *request, topic string) bool {
	return s.allowedCluster(r, kmsg.ACLOperationCreate) ||
		s.allowed(r, kmsg.ACLOperationCreate, kmsg.ACLResourceTypeTopic, topic)
}

// defaultPartitions is num.partitions.
func (s *Server) defaultPartitions() int32 {
	n, _ := strconv.Atoi(s.Catalog.BrokerValue("num.partitions"))
	return int32(n)
}

func (s *Server) metadataTopic(r *request, req *kmsg.MetadataRequest, rt kmsg.MetadataRequestTopic, failed map[string]error) kmsg.MetadataResponseTopic {
	if rt.Topic == nil || (*rt.Topic == "" && rt.TopicID != meta.ID{}) {
		t := s.Catalog.ByID(rt.TopicID)
		if t == nil {
			return noTopic(rt, kerr.UnknownTopicID)
		}
		if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name); err != nil {
			return noTopic(rt, err) // a topic's id is no secret, its name is
		}
		return s.describeTopic(r, req, t)
	}
	name := *rt.Topic
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, name); err != nil {
		return noTopic(rt, err)
	}
	if t := s.Catalog.Get(name); t != nil {
		return s.describeTopic(r, req, t)
	}
	err := failed[name]
	if err == nil {
		err = catalog.CheckName(name)
	}
	if err == nil {
		err = kerr.UnknownTopicOrPartition
	}
	return noTopic(rt, err)
}

func noTopic(rt kmsg.MetadataRequestTopic, err error) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.ErrorCode = rt.Topic, rt.TopicID, code(err)
	return out
}

// describeTopic lists a topic's partitions, all led by this broker. One whose
// log is not open has no leader.
func (s *Server) describeTopic(r *request, req *kmsg.MetadataRequest, t *catalog.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, internal(t.Name)
	out.AuthorizedOperations = noAuthorizedOperations
	if req.IncludeTopicAuthorizedOperations {
		out.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeTopic, t.Name)
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i, p := range t.Partitions {
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition = int32(i)
		mp.Leader, mp.Replicas, mp.ISR = NodeID, onlyReplica, onlyReplica
		if p.Log == nil {
			mp.ErrorCode, mp.Leader = kerr.LeaderNotAvailable.Code, -1
			mp.ISR, mp.OfflineReplicas = nil, onlyReplica
		} else {
			mp.LeaderEpoch = p.Log.Epoch()
		}
		out.Partitions[i] = mp
	}
	return out
}

// onlyReplica is where every partition lies.
var onlyReplica = []int32{NodeID}

// clientHost is the address that a request came from, as Kafka writes it.
func clientHost(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	return "/" + host
}

// internal says whether Kafka would call a topic internal, by its name, which
// clients that take all topics leave out. This broker keeps such state in its
// journal; only a client can have made such a topic here.
func internal(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state"
}
