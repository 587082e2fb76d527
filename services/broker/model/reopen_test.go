package model

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// offsets compares a group's commits. fresh: after a restart, which decides
// what was not known.
func (w *world) offsets(fresh bool) {
	byGroup := map[string][]slotKey{}
	for k := range w.groups {
		if k.topic.limbo == "" && w.topics[k.topic.name] == k.topic {
			byGroup[k.group] = append(byGroup[k.group], k)
		}
	}
	for _, t := range w.openTxns() {
		for k := range t.offs {
			if _, known := w.groups[k]; !known && k.topic.limbo == "" {
				w.groups[k] = []int64{-1}
				byGroup[k.group] = append(byGroup[k.group], k)
			}
		}
	}
	for group, keys := range byGroup {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.Group = 7, group
		for _, k := range keys {
			req.Topics = append(req.Topics, kmsg.OffsetFetchRequestTopic{Topic: k.topic.name, Partitions: []int32{k.num}})
		}
		resp := w.must(req).(*kmsg.OffsetFetchResponse)
		if resp.ErrorCode != 0 {
			failf("offsets of %s: code %d", group, resp.ErrorCode)
		}
		for i, k := range keys {
			got := resp.Topics[i].Partitions[0]
			can := slices.Clone(w.groups[k])
			for _, t := range w.openTxns() {
				if v, ok := t.offs[k]; ok && t.asked {
					can = append(can, v)
				}
			}
			if got.ErrorCode != 0 || !slices.Contains(can, got.Offset) {
				failf("group %s, %s-%d: offset %d (code %d), want one of %v", group, k.topic.name, k.num, got.Offset, got.ErrorCode, can)
			}
			if fresh && len(w.groups[k]) > 1 && slices.Contains(w.groups[k], got.Offset) {
				w.groups[k] = []int64{got.Offset}
			}
		}
	}
}

// reopened looks at everything after a restart: what was not known is now.
func (w *world) reopened() {
	w.fresh = true
	defer func() { w.fresh = false }()
	w.topicsAfter()
	w.eachPart(func(p *part) {
		w.extend(p)
		for _, b := range p.waiting {
			switch {
			case b.fate == acked && b.safe && b.base >= p.start:
				failf("%s: batch %d was acknowledged at %d and is lost; the log ends at %d", p.dir(), b.id, b.base, p.end)
			}
			b.fate, b.base = never, -1 // a producer that was not answered may send it again
		}
		p.waiting = nil
		w.verify(p)
	})
	w.offsets(true)
}

// topicsAfter compares the list of topics and resolves what was in limbo.
func (w *world) topicsAfter() {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	there := map[string]kmsg.MetadataResponseTopic{}
	for _, t := range w.must(req).(*kmsg.MetadataResponse).Topics {
		there[*t.Topic] = t
	}
	for name, t := range w.topics {
		got, ok := there[name]
		delete(there, name)
		switch {
		case !ok && t.limbo != "made" && t.limbo != "deleted":
			failf("topic %s is gone", name)
		case !ok:
			w.forget(t)
			continue
		case t.limbo == "made" && w.ids[got.TopicID], t.limbo != "made" && got.TopicID != t.id:
			failf("topic %s has id %x, it was %x", name, got.TopicID, t.id)
		}
		n := len(got.Partitions)
		if n != len(t.parts) && !(t.limbo == "grown" && n == t.grown) {
			failf("topic %s has %d partitions, want %d", name, n, len(t.parts))
		}
		t.grow(n)
		t.id, t.limbo = got.TopicID, ""
		w.ids[t.id] = true
		for _, p := range got.Partitions {
			if p.ErrorCode != 0 {
				failf("%s-%d: code %d after the start", name, p.Partition, p.ErrorCode)
			}
		}
	}
	for name := range there {
		failf("topic %s is there, nobody made it", name)
	}
}
