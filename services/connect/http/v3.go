package http

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
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

// recordV3 is one record of the stream of POST .../records.
type recordV3 struct {
	Partition *int32 `json:"partition_id"`
	Headers   []struct {
		Name  string  `json:"name"`
		Value *string `json:"value"` // base64
	} `json:"headers"`
	Key       *dataV3    `json:"key"`
	Value     *dataV3    `json:"value"`
	Timestamp *time.Time `json:"timestamp"`
}

type dataV3 struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func (d *dataV3) bytes() ([]byte, error) {
	if d == nil || len(d.Data) == 0 || string(d.Data) == "null" {
		return nil, nil
	}
	var text string
	switch d.Type {
	case "JSON":
		return d.Data, nil
	case "BINARY", "STRING":
		if err := json.Unmarshal(d.Data, &text); err != nil {
			return nil, fmt.Errorf("type %s wants text: %w", d.Type, err)
		}
		if d.Type == "STRING" {
			return []byte(text), nil
		}
		return base64.StdEncoding.DecodeString(text)
	}
	return nil, fmt.Errorf("type %q is not taken: want JSON, BINARY or STRING; there is no schema registry on the box", d.Type)
}

// said is what the answer has of it.
func (d *dataV3) said(n int) object {
	if d == nil {
		return nil
	}
	return object{"type": d.Type, "size": n}
}

const maxStreaming = 64 // records of a stream that wait for the broker

// postRecords reads a stream of JSON objects and answers each, in their
// order, once the broker has it on disk; a client may keep the connection
// open and go on.
func (s *server) postRecords(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	topic := r.PathValue("topic")
	if !c.may(topic) {
		return errNoTopic
	}
	if t := media(r.Header.Get("Content-Type")); t != typePlain {
		return &problem{http.StatusUnsupportedMediaType, 415, fmt.Sprintf("content type %q is not taken: want %s", t, typePlain)}
	}
	ctl := http.NewResponseController(w)
	_ = ctl.EnableFullDuplex()
	w.Header().Set("Content-Type", typePlain)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	answers := make(chan func() object, maxStreaming)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(answers)
		s.readRecords(ctx, ctl, r, c, id, topic, answers)
	}()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	first := true
	for a := range answers {
		out := a()
		if code, ok := out["error_code"].(int); ok && first && code != http.StatusOK && len(answers) == 0 {
			w.WriteHeader(code)
		}
		first = false
		_ = ctl.SetWriteDeadline(time.Now().Add(bodyWait))
		if enc.Encode(out) != nil {
			cancel() // the client is gone
		}
		_ = ctl.Flush()
	}
	<-read
	return nil
}

// readRecords puts a function for each record into answers: it waits for what
// to answer.
func (s *server) readRecords(ctx context.Context, ctl *http.ResponseController, r *http.Request, c *caller, id, topic string, answers chan<- func() object) {
	put := func(a func() object) bool {
		select {
		case answers <- a:
			return true
		case <-ctx.Done():
			return false
		}
	}
	refuse := func(status int, text string) bool {
		return put(func() object { return object{"error_code": status, "message": text} })
	}
	body := newStream(&arriving{ctx: ctx, r: r.Body, room: s.bodies, caller: c.name, most: s.maxBody})
	defer body.leave()
	for n := 0; ctx.Err() == nil; n++ {
		_ = ctl.SetReadDeadline(time.Now().Add(bodyWait))
		var in recordV3
		size, err := body.next(&in)
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return
		case errors.Is(err, errTooMuch):
			refuse(http.StatusRequestEntityTooLarge, tooLarge(s.maxBody).text)
			return
		case errors.Is(err, errNoRoom):
			refuse(http.StatusServiceUnavailable, busy().text)
			return
		case err != nil:
			refuse(http.StatusBadRequest, "Bad Request: the stream is no JSON that is understood: "+err.Error())
			return
		}
		free := func() { s.bodies.give(c.name, size) }
		a, err := s.takeV3(ctx, in, c, id, topic, free)
		if err != nil {
			free()
			var p *problem
			if !errors.As(err, &p) {
				p = kafkaProblem(err)
			}
			if !refuse(p.status, p.text) {
				return
			}
			continue
		}
		if !put(a) {
			return
		}
	}
}

// takeV3 has a record stored and returns what waits for it; free is called
// when nothing of it is held any more, unless there is an error.
func (s *server) takeV3(ctx context.Context, in recordV3, c *caller, id, topic string, free func()) (func() object, error) {
	if wait := s.rates.take(c.name, 1); wait > 0 {
		return nil, &problem{http.StatusTooManyRequests, 42901, (&later{}).Error()}
	}
	rec, err := s.recordV3(in, c, topic)
	if err != nil {
		return nil, err
	}
	if err := s.checkPartitions(ctx, []*kgo.Record{rec}); err != nil {
		return nil, err
	}
	// A client may be slow to take answers: they hold nothing of the record.
	key, value := in.Key.said(len(rec.Key)), in.Value.said(len(rec.Value))
	told := make(chan stored, 1)
	wait, cancel := context.WithTimeout(ctx, storeWait)
	s.storeOne(wait, rec, free, func(o stored) { told <- o })
	return func() object {
		defer cancel()
		return answerV3(<-told, id, topic, key, value)
	}, nil
}

// recordV3 makes a record of one of a stream.
func (s *server) recordV3(in recordV3, c *caller, topic string) (*kgo.Record, error) {
	rec := &kgo.Record{Topic: topic, Partition: -1}
	if in.Partition != nil {
		rec.Partition = *in.Partition
	}
	if in.Timestamp != nil {
		rec.Timestamp = *in.Timestamp
	}
	for _, h := range in.Headers {
		out := kgo.RecordHeader{Key: h.Name}
		if h.Value != nil {
			v, err := base64.StdEncoding.DecodeString(*h.Value)
			if err != nil {
				return nil, bad(422, "header %s: want base64: %v", h.Name, err)
			}
			out.Value = v
		}
		rec.Headers = append(rec.Headers, out)
	}
	rec.Headers = append(rec.Headers, s.headers(c)...)
	var err error
	if rec.Key, err = in.Key.bytes(); err == nil {
		rec.Value, err = in.Value.bytes()
	}
	if err != nil {
		return nil, bad(422, "Unprocessable Entity: %v", err)
	}
	return rec, nil
}

func answerV3(o stored, id, topic string, key, value object) object {
	if o.err != nil {
		p := kafkaProblem(o.err)
		return object{"error_code": p.status, "message": p.text}
	}
	out := object{
		"error_code": http.StatusOK, "cluster_id": id, "topic_name": topic, "partition_id": o.partition,
		"offset": o.offset, "timestamp": o.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
	}
	if key != nil {
		out["key"] = key
	}
	if value != nil {
		out["value"] = value
	}
	return out
}
