package http

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

func (s *server) routesV3(mux *http.ServeMux) {
	for pattern, h := range map[string]handle{
		"GET /v3/clusters":                                                 s.getClusters,
		"GET /v3/clusters/{cluster}":                                       s.getCluster,
		"GET /v3/clusters/{cluster}/topics":                                s.getTopicsV3,
		"POST /v3/clusters/{cluster}/topics":                               s.newTopic,
		"GET /v3/clusters/{cluster}/topics/{topic}":                        s.getTopicV3,
		"GET /v3/clusters/{cluster}/topics/{topic}/partitions":             s.getPartitionsV3,
		"GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}": s.getPartitionV3,
		"POST /v3/clusters/{cluster}/topics/{topic}/records":               s.postRecords,
	} {
		mux.HandleFunc(pattern, s.known(h))
	}
}

// object is a resource of v3.
type object map[string]any

// url is the address of a resource, as the client dialled it.
func url(r *http.Request, path string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + path
}

func related(r *http.Request, path string) object { return object{"related": url(r, path)} }

func list(w http.ResponseWriter, r *http.Request, kind string, data []object) error {
	if data == nil {
		data = []object{}
	}
	answer(w, r, http.StatusOK, object{"kind": kind, "metadata": object{"self": url(r, r.URL.Path), "next": nil}, "data": data})
	return nil
}

// cluster is the id of the box's cluster; the path must have it.
func (s *server) cluster(r *http.Request) (string, error) {
	m, err := s.adm.BrokerMetadata(r.Context())
	if err != nil {
		return "", err
	}
	if want := r.PathValue("cluster"); want != "" && want != m.Cluster {
		return "", &problem{http.StatusNotFound, 404, "Cluster " + want + " cannot be found."}
	}
	return m.Cluster, nil
}

func clusterV3(r *http.Request, id string) object {
	at := "/v3/clusters/" + id
	return object{
		"kind": "KafkaCluster", "metadata": object{"self": url(r, at), "resource_name": "crn:///kafka=" + id},
		"cluster_id": id, "topics": related(r, at+"/topics"),
	}
}

func (s *server) getClusters(w http.ResponseWriter, r *http.Request, _ *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	return list(w, r, "KafkaClusterList", []object{clusterV3(r, id)})
}

func (s *server) getCluster(w http.ResponseWriter, r *http.Request, _ *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, clusterV3(r, id))
	return nil
}

func topicV3(r *http.Request, id string, t kadm.TopicDetail) object {
	at := "/v3/clusters/" + id + "/topics/" + t.Topic
	replicas := 0
	for _, p := range t.Partitions {
		replicas = len(p.Replicas)
	}
	return object{
		"kind": "KafkaTopic", "metadata": object{"self": url(r, at), "resource_name": "crn:///kafka=" + id + "/topic=" + t.Topic},
		"cluster_id": id, "topic_name": t.Topic, "is_internal": t.IsInternal,
		"replication_factor": replicas, "partitions_count": len(t.Partitions), "partitions": related(r, at+"/partitions"),
	}
}

func (s *server) getTopicsV3(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	all, err := s.topics(r.Context(), c)
	if err != nil {
		return err
	}
	var data []object
	for _, t := range all {
		data = append(data, topicV3(r, id, t))
	}
	return list(w, r, "KafkaTopicList", data)
}

// topicOf is the topic of the path.
func (s *server) topicOf(r *http.Request, c *caller) (string, kadm.TopicDetail, error) {
	id, err := s.cluster(r)
	if err != nil {
		return "", kadm.TopicDetail{}, err
	}
	t, err := s.topic(r.Context(), c, r.PathValue("topic"))
	return id, t, err
}

func (s *server) getTopicV3(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, t, err := s.topicOf(r, c)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, topicV3(r, id, t))
	return nil
}

// newTopic makes a topic that the caller may use.
func (s *server) newTopic(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	data, free, err := s.body(w, r, c.name)
	if err != nil {
		return err
	}
	defer free()
	in := struct {
		Name       string `json:"topic_name"`
		Partitions int32  `json:"partitions_count"`
		Configs    []struct{ Name, Value string }
	}{Partitions: -1}
	if err := decode(data, &in); err != nil {
		return err
	}
	if !c.may(in.Name) {
		return &problem{http.StatusForbidden, 40301, "topic " + in.Name + " is none of this client's"}
	}
	configs := map[string]*string{}
	for _, v := range in.Configs {
		configs[v.Name] = &v.Value
	}
	if _, err := s.adm.CreateTopic(r.Context(), in.Partitions, -1, configs, in.Name); err != nil {
		return kafkaProblem(err)
	}
	t, err := s.topic(r.Context(), c, in.Name)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusCreated, topicV3(r, id, t))
	return nil
}

func partitionV3(r *http.Request, id, topic string, p kadm.PartitionDetail) object {
	at := fmt.Sprintf("/v3/clusters/%s/topics/%s/partitions/%d", id, topic, p.Partition)
	return object{
		"kind":       "KafkaPartition",
		"metadata":   object{"self": url(r, at), "resource_name": fmt.Sprintf("crn:///kafka=%s/topic=%s/partition=%d", id, topic, p.Partition)},
		"cluster_id": id, "topic_name": topic, "partition_id": p.Partition,
	}
}

func (s *server) getPartitionsV3(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, t, err := s.topicOf(r, c)
	if err != nil {
		return err
	}
	var data []object
	for _, p := range t.Partitions.Sorted() {
		data = append(data, partitionV3(r, id, t.Topic, p))
	}
	return list(w, r, "KafkaPartitionList", data)
}

func (s *server) getPartitionV3(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, t, err := s.topicOf(r, c)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("partition"))
	p, there := t.Partitions[int32(n)]
	if err != nil || !there {
		return &problem{http.StatusNotFound, 404, "This server does not host this topic-partition."}
	}
	answer(w, r, http.StatusOK, partitionV3(r, id, t.Topic, p))
	return nil
}
