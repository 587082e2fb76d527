package model

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// shapes are the configurations of topics.
var shapes = []map[string]string{
	{"segment.bytes": "2000"},
	{"segment.bytes": "1000"},
	{"segment.bytes": "1500", "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "20000"},
	{"segment.bytes": "800", "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": "60000"},
	{"segment.bytes": "1200", "cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0.1", "retention.ms": "600000"},
	{"segment.bytes": "1000", "retention.ms": "30000"},
	{"segment.bytes": "1000", "retention.bytes": "3000"},
	{"segment.bytes": "1000", "wayside.full": "drop-oldest"},
	{"segment.bytes": "1000", "message.timestamp.type": "LogAppendTime"},
	{"segment.bytes": "1500", "compression.type": "gzip"},
	{"segment.bytes": "1500", "segment.ms": "10000"},
}

func (w *world) opCreate() {
	name := string(rune('a' + w.rng.IntN(5)))
	if w.topics[name] != nil {
		return
	}
	w.create(name, 1+w.rng.IntN(2), shapes[w.rng.IntN(len(shapes))])
}

func (w *world) create(name string, parts int, conf map[string]string) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 7
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, int32(parts), 1
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		v := conf[k]
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
	}
	req.Topics = []kmsg.CreateTopicsRequestTopic{rt}
	t := newTopic(name, parts, maps.Clone(conf))
	w.topics[name] = t
	t.limbo = "made"
	got := w.try(req)
	if got == nil {
		return
	}
	resp := got.(*kmsg.CreateTopicsResponse).Topics[0]
	w.notef("  %s, %d partitions, %v: code %d, id %x", name, parts, conf, resp.ErrorCode, resp.TopicID)
	if resp.ErrorCode != 0 {
		if !w.excusedState() {
			failf("create %s: code %d", name, resp.ErrorCode)
		}
		return
	}
	if w.ids[resp.TopicID] {
		failf("create %s: id %x was used before", name, resp.TopicID)
	}
	t.limbo, t.id = "", resp.TopicID
	w.ids[t.id] = true
	for _, p := range t.parts {
		w.verify(p) // empty
	}
}

func (w *world) opDelete() {
	p := w.pick()
	if p == nil || len(w.topics) < 3 {
		return
	}
	// Closing a log waits for its compaction, and that for time to pass, which
	// it does not in a bubble while somebody waits for a mutex.
	w.sleep(time.Second)
	t := p.topic
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TopicNames = 5, []string{t.name}
	t.limbo = "deleted"
	got := w.try(req)
	if got == nil {
		return
	}
	code := got.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode
	w.notef("  %s: code %d", t.name, code)
	if code != 0 {
		if !w.excusedState() {
			failf("delete %s: code %d", t.name, code)
		}
		return
	}
	w.forget(t)
}

func (w *world) opGrow() {
	p := w.pick()
	if p == nil || len(p.topic.parts) > 2 {
		return
	}
	t := p.topic
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version = 3
	t.grown = len(t.parts) + 1
	req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: t.name, Count: int32(t.grown)}}
	t.limbo = "grown"
	got := w.try(req)
	if got == nil {
		return
	}
	code := got.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode
	w.notef("  %s to %d: code %d", t.name, t.grown, code)
	if code != 0 {
		if !w.excusedState() {
			failf("grow %s: code %d", t.name, code)
		}
		return
	}
	t.limbo = ""
	t.grow(t.grown)
}

func (w *world) opDeleteRecords() {
	p := w.pick()
	if p == nil {
		return
	}
	w.extend(p)
	if p.end <= p.start {
		return
	}
	to := p.start + w.rng.Int64N(p.end-p.start+1)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version = 2
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: p.topic.name, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: p.num, Offset: to}}}}
	if p.topic.conf["cleanup.policy"] != "compact" || p.topic.loose {
		p.mayStart = max(p.mayStart, to)
	}
	got := w.try(req)
	if got == nil {
		return
	}
	resp := got.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
	w.notef("  of %s up to %d: code %d, start %d", p.dir(), to, resp.ErrorCode, resp.LowWatermark)
	switch {
	case resp.ErrorCode == 0:
		if resp.LowWatermark < to {
			failf("delete records of %s up to %d: the log starts at %d", p.dir(), to, resp.LowWatermark)
		}
		w.moved(p, resp.LowWatermark)
	case resp.ErrorCode == policy && (p.topic.conf["cleanup.policy"] == "compact" || p.topic.loose):
	case w.excused(p):
	default:
		failf("delete records of %s up to %d: code %d", p.dir(), to, resp.ErrorCode)
	}
}

// changes are what may be altered of a topic.
var changes = []struct{ name, value string }{
	{"segment.bytes", "700"},
	{"segment.bytes", "5000"},
	{"cleanup.policy", "compact"},
	{"cleanup.policy", "delete"},
	{"cleanup.policy", "compact,delete"},
	{"retention.ms", "10000"},
	{"retention.ms", "-1"},
	{"retention.bytes", "1500"},
	{"retention.bytes", "-1"},
	{"min.cleanable.dirty.ratio", "0.01"},
	{"wayside.full", "drop-oldest"},
	{"message.timestamp.type", "LogAppendTime"},
}

func (w *world) opAlter() {
	p := w.pick()
	if p == nil {
		return
	}
	t, change := p.topic, changes[w.rng.IntN(len(changes))]
	for _, p := range t.parts { // what the old configuration allowed is seen before
		w.verify(p)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, t.name
	res.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: change.name, Value: &change.value}}
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{res}
	old := maps.Clone(t.conf)
	t.conf[change.name] = change.value
	t.noteConf() // at the latest when it is done; it may be
	got := w.try(req)
	if got != nil {
		code := got.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode
		w.notef("  %s=%s of %s: code %d", change.name, change.value, t.name, code)
		if code == 0 {
			return
		}
		if !w.excusedState() {
			failf("alter %s of %s: code %d", change.name, t.name, code)
		}
	}
	t.conf, t.loose = old, true
}
