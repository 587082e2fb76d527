package http

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

func (s *server) routesV2(mux *http.ServeMux) {
	for pattern, h := range map[string]handle{
		"GET /brokers":                                        s.getBrokers,
		"GET /topics":                                         s.getTopics,
		"GET /topics/{topic}":                                 s.getTopic,
		"POST /topics/{topic}":                                s.postTopic,
		"GET /topics/{topic}/partitions":                      s.getPartitions,
		"GET /topics/{topic}/partitions/{partition}":          s.getPartition,
		"POST /topics/{topic}/partitions/{partition}":         s.postPartition,
		"GET /topics/{topic}/partitions/{partition}/offsets":  s.getOffsets,
		"POST /consumers/{group}":                             s.newConsumer,
		"DELETE /consumers/{group}/instances/{instance}":      s.dropConsumer,
		"GET /consumers/{group}/instances/{instance}/records": s.of((*consumer).records),

		"POST /consumers/{group}/instances/{instance}/subscription":        s.of((*consumer).subscribe),
		"GET /consumers/{group}/instances/{instance}/subscription":         s.of((*consumer).subscription),
		"DELETE /consumers/{group}/instances/{instance}/subscription":      s.of((*consumer).unsubscribe),
		"POST /consumers/{group}/instances/{instance}/assignments":         s.of((*consumer).assign),
		"GET /consumers/{group}/instances/{instance}/assignments":          s.of((*consumer).assignments),
		"POST /consumers/{group}/instances/{instance}/offsets":             s.of((*consumer).commit),
		"GET /consumers/{group}/instances/{instance}/offsets":              s.of((*consumer).committed),
		"POST /consumers/{group}/instances/{instance}/positions":           s.of((*consumer).seek),
		"POST /consumers/{group}/instances/{instance}/positions/beginning": s.of((*consumer).seekBeginning),
		"POST /consumers/{group}/instances/{instance}/positions/end":       s.of((*consumer).seekEnd),
	} {
		mux.HandleFunc(pattern, s.known(h))
	}
}

func (s *server) getBrokers(w http.ResponseWriter, r *http.Request, _ *caller) error {
	m, err := s.adm.BrokerMetadata(r.Context())
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, map[string]any{"brokers": m.Brokers.NodeIDs()})
	return nil
}

// topics are those of the caller, sorted.
func (s *server) topics(ctx context.Context, c *caller) ([]kadm.TopicDetail, error) {
	all, err := s.adm.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all.Sorted(), func(t kadm.TopicDetail) bool { return !c.may(t.Topic) }), nil
}

// topic is one that there is; asking does not make it.
func (s *server) topic(ctx context.Context, c *caller, name string) (kadm.TopicDetail, error) {
	all, err := s.topics(ctx, c)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	for _, t := range all {
		if t.Topic == name && t.Err == nil {
			return t, nil
		}
	}
	return kadm.TopicDetail{}, errNoTopic
}

func (s *server) partitions(ctx context.Context, topic string) (int, error) {
	t, err := s.topic(ctx, &caller{topics: []string{topic}}, topic)
	return len(t.Partitions), err
}

func (s *server) getTopics(w http.ResponseWriter, r *http.Request, c *caller) error {
	all, err := s.topics(r.Context(), c)
	if err != nil {
		return err
	}
	names := []string{}
	for _, t := range all {
		names = append(names, t.Topic)
	}
	answer(w, r, http.StatusOK, names)
	return nil
}

type replicaV2 struct {
	Broker int32 `json:"broker"`
	Leader bool  `json:"leader"`
	InSync bool  `json:"in_sync"`
}

type partitionV2 struct {
	Partition int32       `json:"partition"`
	Leader    int32       `json:"leader"`
	Replicas  []replicaV2 `json:"replicas"`
}

func partitionsV2(t kadm.TopicDetail) []partitionV2 {
	all := []partitionV2{}
	for _, p := range t.Partitions.Sorted() {
		out := partitionV2{Partition: p.Partition, Leader: p.Leader, Replicas: []replicaV2{}}
		for _, b := range p.Replicas {
			out.Replicas = append(out.Replicas, replicaV2{b, b == p.Leader, slices.Contains(p.ISR, b)})
		}
		all = append(all, out)
	}
	return all
}

func (s *server) getTopic(w http.ResponseWriter, r *http.Request, c *caller) error {
	t, err := s.topic(r.Context(), c, r.PathValue("topic"))
	if err != nil {
		return err
	}
	configs := map[string]string{}
	if got, err := s.adm.DescribeTopicConfigs(r.Context(), t.Topic); err == nil && len(got) == 1 {
		for _, v := range got[0].Configs {
			configs[v.Key] = v.MaybeValue()
		}
	}
	answer(w, r, http.StatusOK, map[string]any{"name": t.Topic, "configs": configs, "partitions": partitionsV2(t)})
	return nil
}

func (s *server) getPartitions(w http.ResponseWriter, r *http.Request, c *caller) error {
	t, err := s.topic(r.Context(), c, r.PathValue("topic"))
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, partitionsV2(t))
	return nil
}

// partition is that of the path, if there is one.
func (s *server) partition(r *http.Request, c *caller) (int32, error) {
	t, err := s.topic(r.Context(), c, r.PathValue("topic"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(r.PathValue("partition"), 10, 32)
	if _, there := t.Partitions[int32(n)]; err != nil || !there {
		return 0, &problem{http.StatusNotFound, 40402, "Partition not found."}
	}
	return int32(n), nil
}

func (s *server) getPartition(w http.ResponseWriter, r *http.Request, c *caller) error {
	p, err := s.partition(r, c)
	if err != nil {
		return err
	}
	t, err := s.topic(r.Context(), c, r.PathValue("topic"))
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, partitionsV2(t)[p])
	return nil
}

func (s *server) getOffsets(w http.ResponseWriter, r *http.Request, c *caller) error {
	p, err := s.partition(r, c)
	if err != nil {
		return err
	}
	topic := r.PathValue("topic")
	starts, err := s.adm.ListStartOffsets(r.Context(), topic)
	if err != nil {
		return err
	}
	ends, err := s.adm.ListEndOffsets(r.Context(), topic)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, map[string]int64{"beginning_offset": starts[topic][p].Offset, "end_offset": ends[topic][p].Offset})
	return nil
}
