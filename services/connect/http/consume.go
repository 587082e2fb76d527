package http

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
