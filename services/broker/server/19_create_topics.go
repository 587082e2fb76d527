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
// Versions 2 to 7. The replication factor is 1 or -1, as for any cluster of
// one broker.
var createTopicsAPI = api{key: kmsg.CreateTopics, min: 2, max: 7, handle: typed(handleCreateTopics)}

const defaultPartitions = 1

func handleCreateTopics(s *Server, _ context.Context, _ *request, req *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	seen := map[string]int{}
	for _, rt := range req.Topics {
		seen[rt.Topic]++
	}
	for _, rt := range req.Topics {
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic = rt.Topic
		t, err := s.createTopic(rt, seen[rt.Topic] > 1, req.ValidateOnly)
		if err != nil {
			out.ErrorCode, out.ErrorMessage = code(err), message(err)
			out.NumPartitions, out.ReplicationFactor = -1, -1
		} else {
			out.TopicID, out.NumPartitions, out.ReplicationFactor = t.ID, t.Topic.Partitions, 1
			out.Configs = createdConfigs(t)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (s *Server) createTopic(rt kmsg.CreateTopicsRequestTopic, twice, validateOnly bool) (*catalog.Topic, error) {
	if twice {
		return nil, fmt.Errorf("%w: topic %s is in the request twice", kerr.InvalidRequest, rt.Topic)
	}
	partitions, err := partitionsOf(rt)
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for _, c := range rt.Configs {
		if c.Value != nil {
			config[c.Name] = *c.Value
		}
	}
	if !validateOnly {
		return s.Catalog.Create(rt.Topic, partitions, config)
	}
	t := &catalog.Topic{}
	t.Name, t.Topic.Partitions, t.Config = rt.Topic, partitions, config
	return t, s.Catalog.Check(rt.Topic, partitions, config)
}

// partitionsOf reads the number of partitions, also from a list of replicas.
func partitionsOf(rt kmsg.CreateTopicsRequestTopic) (int32, error) {
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return 0, fmt.Errorf("%w: both a replica assignment and numbers are given", kerr.InvalidRequest)
		}
		for _, a := range rt.ReplicaAssignment {
			if len(a.Replicas) != 1 || a.Replicas[0] != NodeID || a.Partition < 0 || int(a.Partition) >= len(rt.ReplicaAssignment) {
				return 0, fmt.Errorf("%w: the only broker is %d", kerr.InvalidReplicaAssignment, NodeID)
			}
		}
		return int32(len(rt.ReplicaAssignment)), nil
	}
	if rt.ReplicationFactor != 1 && rt.ReplicationFactor != -1 {
		return 0, fmt.Errorf("%w: replication factor %d; there is one broker", kerr.InvalidReplicationFactor, rt.ReplicationFactor)
	}
	if rt.NumPartitions == -1 {
		return defaultPartitions, nil
	}
	return rt.NumPartitions, nil
}

func createdConfigs(t *catalog.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	var out []kmsg.CreateTopicsResponseTopicConfig
	for _, d := range catalog.Defs {
		v := catalog.Value(t.Config, d.Name)
		out = append(out, kmsg.CreateTopicsResponseTopicConfig{Name: d.Name, Value: &v, Source: int8(sourceOf(t, d.Name))})
	}
	return out
}
