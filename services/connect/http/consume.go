package http

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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

func (k *consumer) subscribe(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Topics  []string `json:"topics"`
		Pattern string   `json:"topic_pattern"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	if len(k.assigned) > 0 {
		return &problem{http.StatusConflict, 40903, "Subscription to topics, partitions and pattern are mutually exclusive."}
	}
	if in.Pattern != "" { // those that there are now: what comes later needs a new subscription
		re, err := regexp.Compile("^(?:" + in.Pattern + ")$")
		if err != nil {
			return bad(422, "topic_pattern: %v", err)
		}
		all, err := k.s.topics(r.Context(), c)
		if err != nil {
			return err
		}
		for _, t := range all {
			if re.MatchString(t.Topic) {
				in.Topics = append(in.Topics, t.Topic)
			}
		}
	}
	if len(in.Topics) == 0 {
		return bad(422, "topics may not be empty")
	}
	for _, t := range in.Topics {
		if !c.may(t) {
			return errNoTopic
		}
	}
	k.leave()
	if err := k.open(kgo.ConsumerGroup(k.group), kgo.DisableAutoCommit(), kgo.ConsumeTopics(in.Topics...)); err != nil {
		return err
	}
	k.topics, k.pattern = in.Topics, in.Pattern
	return done(w)
}

func (k *consumer) subscription(w http.ResponseWriter, r *http.Request, _ *caller) error {
	topics := k.topics
	if topics == nil {
		topics = []string{}
	}
	answer(w, r, http.StatusOK, map[string]any{"topics": topics})
	return nil
}

func (k *consumer) unsubscribe(w http.ResponseWriter, _ *http.Request, _ *caller) error {
	k.leave()
	return done(w)
}

func (k *consumer) assign(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Partitions []place `json:"partitions"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	if len(k.topics) > 0 {
		return &problem{http.StatusConflict, 40903, "Subscription to topics, partitions and pattern are mutually exclusive."}
	}
	committed, err := k.s.adm.FetchOffsets(r.Context(), k.group)
	if err != nil {
		committed = nil // there is no such group yet
	}
	from := map[string]map[int32]kgo.Offset{}
	for _, p := range in.Partitions {
		if n, err := k.s.partitions(r.Context(), p.Topic); err != nil || !c.may(p.Topic) {
			return errNoTopic
		} else if p.Partition < 0 || int(p.Partition) >= n {
			return &problem{http.StatusNotFound, 40402, "Partition not found."}
		}
		at := k.begin
		if o, ok := committed.Lookup(p.Topic, p.Partition); ok && o.At >= 0 {
			at = kgo.NewOffset().At(o.At)
		}
		if from[p.Topic] == nil {
			from[p.Topic] = map[int32]kgo.Offset{}
		}
		from[p.Topic][p.Partition] = at
	}
	k.leave()
	if len(in.Partitions) == 0 {
		return done(w)
	}
	if err := k.open(kgo.ConsumePartitions(from)); err != nil {
		return err
	}
	k.assigned = in.Partitions
	return done(w)
}

func (k *consumer) assignments(w http.ResponseWriter, r *http.Request, _ *caller) error {
	all := k.assigned
	if all == nil {
		all = []place{}
	}
	answer(w, r, http.StatusOK, map[string]any{"partitions": all})
	return nil
}

// records gives what there is, waiting for the first for a moment. With
// auto.commit.enable what was given before is committed now.
func (k *consumer) records(w http.ResponseWriter, r *http.Request, _ *caller) error {
	if accept := media(r.Header.Get("Accept")); accept != "" && accept != "*/*" && accept != k.format && accept != typeV2 {
		return &problem{http.StatusNotAcceptable, 40601, "Consumer format does not match the embedded Kafka format requested by the Accept header."}
	}
	if k.cl == nil {
		return bad(422, "the consumer has no subscription and no assignment")
	}
	if k.auto {
		if err := k.commitGiven(r.Context()); err != nil {
			return err
		}
	}
	most := query(r, "max_bytes", answerBytes, answerBytes)
	wait := time.Duration(query(r, "timeout", k.wait.Milliseconds(), longestWait.Milliseconds())) * time.Millisecond
	if len(k.pending) == 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		k.pending = k.s.box.Poll(ctx, k.cl, 1000).Records()
		cancel()
	}
	out, bytes := []object{}, int64(0)
	for len(k.pending) > 0 {
		rec := k.pending[0]
		n := int64(len(rec.Key) + len(rec.Value))
		if len(out) > 0 && bytes+n > most {
			break
		}
		bytes += n
		out = append(out, object{
			"topic": rec.Topic, "key": k.embed(rec.Key), "value": k.embed(rec.Value), "partition": rec.Partition, "offset": rec.Offset,
		})
		k.give(rec)
		k.pending = k.pending[1:]
	}
	send(w, http.StatusOK, k.format, out)
	return nil
}

func (k *consumer) give(r *kgo.Record) {
	if k.given[r.Topic] == nil {
		k.given[r.Topic] = map[int32]kgo.EpochOffset{}
	}
	k.given[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

// query is a whole number of the address, at most max.
func query(r *http.Request, name string, def, most int64) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil || n < 0 {
		return def
	}
	return min(n, most)
}

// embed writes a key or value; what is no JSON is given as text.
func (k *consumer) embed(b []byte) any {
	switch {
	case b == nil:
		return nil
	case k.format == typeBinary:
		return base64.StdEncoding.EncodeToString(b)
	case json.Valid(b):
		return json.RawMessage(b)
	}
	return string(b)
}

// commitGiven commits what was given.
func (k *consumer) commitGiven(ctx context.Context) error {
	var all kadm.Offsets
	for topic, ps := range k.given {
		for p, o := range ps {
			all.AddOffset(topic, p, o.Offset, o.Epoch)
		}
	}
	return k.commitAll(ctx, all)
}

func (k *consumer) commitAll(ctx context.Context, all kadm.Offsets) error {
	if len(all) == 0 {
		return nil
	}
	if len(k.assigned) > 0 {
		return k.s.adm.CommitAllOffsets(ctx, k.group, all)
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	all.Each(func(o kadm.Offset) {
		if offsets[o.Topic] == nil {
			offsets[o.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[o.Topic][o.Partition] = kgo.EpochOffset{Epoch: o.LeaderEpoch, Offset: o.At}
	})
	var failed error
	k.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
		failed = err
	})
	return failed
}

func (k *consumer) commit(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Offsets []placeOffset `json:"offsets"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	if k.cl == nil {
		return bad(422, "the consumer has no subscription and no assignment")
	}
	if len(in.Offsets) == 0 {
		if err := k.commitGiven(r.Context()); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	var all kadm.Offsets
	for _, o := range in.Offsets {
		if !c.may(o.Topic) {
			return errNoTopic
		}
		all.AddOffset(o.Topic, o.Partition, o.Offset+1, -1) // the REST Proxy is given the last record that was read
	}
	if err := k.commitAll(r.Context(), all); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (k *consumer) committed(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Partitions []place `json:"partitions"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	got, err := k.s.adm.FetchOffsets(r.Context(), k.group)
	if err != nil {
		return err
	}
	out := []placeOffset{}
	for _, p := range in.Partitions {
		if !c.may(p.Topic) {
			return errNoTopic
		}
		if o, ok := got.Lookup(p.Topic, p.Partition); ok && o.At >= 0 {
			out = append(out, placeOffset{place: p, Offset: o.At})
		}
	}
	answer(w, r, http.StatusOK, map[string]any{"offsets": out})
	return nil
}

func (k *consumer) seek(w http.ResponseWriter, r *http.Request, _ *caller) error {
	var in struct {
		Offsets []placeOffset `json:"offsets"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	to := map[place]int64{}
	for _, o := range in.Offsets {
		to[o.place] = o.Offset
	}
	return k.seekTo(w, to)
}

func (k *consumer) seekBeginning(w http.ResponseWriter, r *http.Request, c *caller) error {
	return k.seekListed(w, r, c, k.s.adm.ListStartOffsets)
}

func (k *consumer) seekEnd(w http.ResponseWriter, r *http.Request, c *caller) error {
	return k.seekListed(w, r, c, k.s.adm.ListEndOffsets)
}

func (k *consumer) seekListed(w http.ResponseWriter, r *http.Request, c *caller, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) error {
	var in struct {
		Partitions []place `json:"partitions"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	to := map[place]int64{}
	for _, p := range in.Partitions {
		if !c.may(p.Topic) {
			return errNoTopic
		}
		got, err := ask(r.Context(), p.Topic)
		if err != nil {
			return err
		}
		o, ok := got.Lookup(p.Topic, p.Partition)
		if !ok {
			return &problem{http.StatusNotFound, 40402, "Partition not found."}
		}
		to[p] = o.Offset
	}
	return k.seekTo(w, to)
}

// seekTo goes on at other offsets; what was fetched before is forgotten.
func (k *consumer) seekTo(w http.ResponseWriter, to map[place]int64) error {
	if k.cl == nil {
		return bad(422, "the consumer has no subscription and no assignment")
	}
	set := map[string]map[int32]kgo.EpochOffset{}
	for p, at := range to {
		if set[p.Topic] == nil {
			set[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		set[p.Topic][p.Partition] = kgo.EpochOffset{Epoch: -1, Offset: at}
	}
	kept := k.pending[:0]
	for _, r := range k.pending {
		if _, moved := to[place{r.Topic, r.Partition}]; !moved {
			kept = append(kept, r)
		}
	}
	k.pending = kept
	k.cl.SetOffsets(set)
	return done(w)
}
