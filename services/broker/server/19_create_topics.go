package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// CreateTopics: answered when the topics are durable.
//
// Every partition has one replica. A replication factor of -1, 1, 2 or 3 is
// taken for that, because Connect, MirrorMaker and many applications ask for
// 3 unless told otherwise; the answer says 1. A replica assignment may name
// the one broker only.
var createTopicsAPI = api{key: kmsg.CreateTopics, min: 2, max: 7, handle: typed(handleCreateTopics)}

// maxReplication is the largest replication factor that counts as 1.
const maxReplication = 3

func handleCreateTopics(s *Server, _ context.Context, r *request, req *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	seen := map[string]int{}
	for _, rt := range req.Topics {
		seen[rt.Topic]++
	}
	made := make([]catalog.Made, len(req.Topics))
	var wanted []catalog.New
	var at []int
	for i, rt := range req.Topics {
		n, err := s.newTopic(r, rt, seen[rt.Topic] > 1)
		if err != nil {
			made[i].Err = err
			continue
		}
		wanted, at = append(wanted, n), append(at, i)
	}
	for i, m := range s.makeTopics(wanted, req.ValidateOnly) {
		made[at[i]] = m
	}
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, len(req.Topics))
	for i, rt := range req.Topics {
		resp.Topics[i] = s.created(r, rt.Topic, made[i])
	}
	return resp
}

func (s *Server) makeTopics(topics []catalog.New, validateOnly bool) []catalog.Made {
	if validateOnly {
		return s.Catalog.CheckAll(topics)
	}
	return s.Catalog.CreateAll(topics)
}

// newTopic reads what a client wants.
func (s *Server) newTopic(r *request, rt kmsg.CreateTopicsRequestTopic, twice bool) (catalog.New, error) {
	n := catalog.New{Name: rt.Topic, Config: map[string]string{}}
	if twice {
		return n, fmt.Errorf("%w: topic %s is in the request twice", kerr.InvalidRequest, rt.Topic)
	}
	if !s.mayCreate(r, rt.Topic) {
		return n, kerr.TopicAuthorizationFailed
	}
	for _, c := range rt.Configs {
		if c.Value == nil {
			return n, fmt.Errorf("%w: %s has no value", kerr.InvalidConfig, c.Name)
		}
		n.Config[c.Name] = *c.Value
	}
	var err error
	n.Partitions, err = s.partitionsOf(rt)
	return n, err
}

// partitionsOf reads the number of partitions, also from a list of replicas.
func (s *Server) partitionsOf(rt kmsg.CreateTopicsRequestTopic) (int32, error) {
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return 0, fmt.Errorf("%w: both a replica assignment and numbers are given", kerr.InvalidRequest)
		}
		return assigned(rt.ReplicaAssignment)
	}
	if f := rt.ReplicationFactor; f != -1 && (f < 1 || f > maxReplication) {
		return 0, fmt.Errorf("%w: replication factor %d; there is one broker, and at most %d is taken for 1", kerr.InvalidReplicationFactor, f, maxReplication)
	}
	if rt.NumPartitions == -1 {
		return s.defaultPartitions(), nil
	}
	return rt.NumPartitions, nil
}

func assigned(as []kmsg.CreateTopicsRequestTopicReplicaAssignment) (int32, error) {
	seen := make([]bool, len(as))
	for _, a := range as {
		if a.Partition < 0 || int(a.Partition) >= len(as) || seen[a.Partition] {
			return 0, fmt.Errorf("%w: partitions are not 0 to %d", kerr.InvalidReplicaAssignment, len(as)-1)
		}
		if !isOnlyReplica(a.Replicas) {
			return 0, fmt.Errorf("%w: the only broker is %d", kerr.InvalidReplicaAssignment, NodeID)
		}
		seen[a.Partition] = true
	}
	return int32(len(as)), nil
}

func isOnlyReplica(replicas []int32) bool { return len(replicas) == 1 && replicas[0] == NodeID }

// created answers for one topic. Who may not see its configuration is told
// that it was made, and no more.
func (s *Server) created(r *request, name string, made catalog.Made) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.NumPartitions, out.ReplicationFactor = name, -1, -1
	if made.Err != nil {
		out.ErrorCode, out.ErrorMessage = code(made.Err), message(made.Err)
		return out
	}
	t := made.Topic
	out.TopicID = t.ID
	if err := s.refused(r, kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeTopic, name); err != nil {
		out.ConfigErrorCode = code(err)
		return out
	}
	out.NumPartitions, out.ReplicationFactor = t.Topic.Partitions, 1
	out.Configs = make([]kmsg.CreateTopicsResponseTopicConfig, len(catalog.Defs))
	for i, d := range catalog.Defs {
		v := s.Catalog.TopicSettings(t, d)[0]
		out.Configs[i] = kmsg.CreateTopicsResponseTopicConfig{Name: d.Name, Value: &v.Value, Source: int8(v.Origin)}
	}
	return out
}
