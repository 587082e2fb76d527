package http

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Of a v2 consumer instance.
const (
	instanceIdle  = 5 * time.Minute // then it is closed, as Confluent's consumer.instance.timeout.ms
	instanceBytes = 1 << 20         // fetched and not yet given
	answerBytes   = 1 << 20         // of one GET .../records by default
	answerWait    = time.Second     // it waits for records by default
	longestWait   = 30 * time.Second
)

// consumers are the v2 consumer instances.
type consumers struct {
	mu  sync.Mutex
	all map[string]*consumer // by group and instance
}

// consumer is one instance: a member of a group, or partitions assigned to it.
// Its methods are requests, of which one at a time is served.
type consumer struct {
	s           *server
	group, name string
	owner       string
	format      string // JSON or binary
	begin       kgo.Offset
	auto        bool
	wait        time.Duration // for records, where a request does not say

	mu       sync.Mutex
	cl       *kgo.Client
	topics   []string
	pattern  string
	assigned []place
	pending  []*kgo.Record // fetched, not given
	given    map[string]map[int32]kgo.EpochOffset
	idle     *time.Timer
}

type place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

type placeOffset struct {
	place
	Offset   int64  `json:"offset"`
	Metadata string `json:"metadata"`
}

var errNoInstance = &problem{http.StatusNotFound, 40403, "Consumer instance not found."}

func (s *server) newConsumer(w http.ResponseWriter, r *http.Request, c *caller) error {
	data, free, err := s.body(w, r, c.name)
	if err != nil {
		return err
	}
	defer free()
	in := struct {
		Name   string `json:"name"`
		Format string `json:"format"`
		Reset  string `json:"auto.offset.reset"`
		Auto   text   `json:"auto.commit.enable"`
		Wait   text   `json:"consumer.request.timeout.ms"`
	}{Format: "binary", Reset: "latest", Auto: "true"}
	if len(data) > 0 {
		if err := decode(data, &in); err != nil {
			return err
		}
	}
	k := &consumer{s: s, group: r.PathValue("group"), name: in.Name, owner: c.name, auto: in.Auto != "false", wait: answerWait, format: typeBinary}
	if in.Wait != "" {
		ms, err := strconv.Atoi(string(in.Wait))
		if err != nil || ms < 0 {
			return bad(42204, "Invalid consumer configuration: consumer.request.timeout.ms %q: want milliseconds", in.Wait)
		}
		k.wait = min(time.Duration(ms)*time.Millisecond, longestWait)
	}
	switch in.Format {
	case "json":
		k.format = typeJSON
	case "binary":
	default:
		return bad(42204, "Invalid consumer configuration: format %q: want json or binary", in.Format)
	}
	switch in.Reset {
	case "earliest":
		k.begin = kgo.NewOffset().AtStart()
	case "latest":
		k.begin = kgo.NewOffset().AtEnd()
	default:
		return bad(42204, "Invalid consumer configuration: auto.offset.reset %q: want earliest or latest", in.Reset)
	}
	if k.name == "" {
		k.name = "rest-consumer-" + uuid.NewString()
	}
	if strings.HasPrefix(k.group, "wayside-") || strings.Contains(k.name, "/") {
		return bad(42204, "Invalid consumer configuration: the group or the name is not for clients")
	}
	if err := s.consumers.add(k); err != nil {
		return err
	}
	base := "/consumers/" + k.group + "/instances/" + k.name
	answer(w, r, http.StatusOK, map[string]string{"instance_id": k.name, "base_uri": url(r, base)})
	return nil
}

// text is a setting of Kafka's: text, or what JSON has for it.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if s := ""; json.Unmarshal(b, &s) == nil {
		*t = text(s)
		return nil
	}
	*t = text(b)
	return nil
}

func (k *consumer) key() string { return k.group + "/" + k.name }

func (cs *consumers) add(k *consumer) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.all[k.key()] != nil {
		return &problem{http.StatusConflict, 40902, "Consumer instance with the specified name already exists."}
	}
	if len(cs.all) >= maxInstances {
		return &problem{http.StatusServiceUnavailable, 50301, fmt.Sprintf("there are %d consumer instances, which is the most", maxInstances)}
	}
	if cs.all == nil {
		cs.all = map[string]*consumer{}
	}
	k.idle = time.AfterFunc(instanceIdle, func() { cs.drop(k) })
	cs.all[k.key()] = k
	return nil
}

func (cs *consumers) drop(k *consumer) {
	cs.mu.Lock()
	if cs.all[k.key()] == k {
		delete(cs.all, k.key())
	}
	cs.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle.Stop()
	k.leave()
}

func (cs *consumers) close() {
	cs.mu.Lock()
	all := cs.all
	cs.all = nil
	cs.mu.Unlock()
	for _, k := range all {
		cs.drop(k)
	}
}

// find is the instance of the path, if it is the caller's.
func (s *server) find(r *http.Request, c *caller) (*consumer, error) {
	s.consumers.mu.Lock()
	defer s.consumers.mu.Unlock()
	k := s.consumers.all[r.PathValue("group")+"/"+r.PathValue("instance")]
	if k == nil || k.owner != c.name {
		return nil, errNoInstance
	}
	return k, nil
}

// of is a route of an instance.
func (s *server) of(h func(k *consumer, w http.ResponseWriter, r *http.Request, c *caller) error) handle {
	return func(w http.ResponseWriter, r *http.Request, c *caller) error {
		k, err := s.find(r, c)
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.idle.Reset(instanceIdle)
		return h(k, w, r, c)
	}
}

func (s *server) dropConsumer(w http.ResponseWriter, r *http.Request, c *caller) error {
	k, err := s.find(r, c)
	if err != nil {
		return err
	}
	s.consumers.drop(k)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// leave commits what is due and closes the client; k.mu is held.
func (k *consumer) leave() {
	if k.cl == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if k.auto {
		_ = k.commitGiven(ctx)
	}
	k.cl.Close()
	k.cl, k.pending, k.given, k.topics, k.pattern, k.assigned = nil, nil, nil, nil, "", nil
}

func (k *consumer) open(opts ...kgo.Opt) (err error) {
	k.given = map[string]map[int32]kgo.EpochOffset{}
	k.cl, err = k.s.box.Client(append(opts, kgo.FetchMaxBytes(instanceBytes), kgo.FetchMaxPartitionBytes(instanceBytes),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(k.begin), kgo.MaxConcurrentFetches(1))...)
	return err
}

// request decodes a body into v.
func (k *consumer) request(w http.ResponseWriter, r *http.Request, v any) error {
	data, free, err := k.s.body(w, r, k.owner)
	if err != nil {
		return err
	}
	defer free()
	if len(data) == 0 {
		return nil
	}
	return decode(data, v)
}

func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
