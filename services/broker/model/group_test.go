package model

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (w *world) opCommit() {
	group := fmt.Sprintf("g%d", w.rng.IntN(3))
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	values := map[slotKey]int64{}
	for range 1 + w.rng.IntN(3) {
		p := w.pick()
		if p == nil {
			return
		}
		k := slotKey{group, p.topic, p.num}
		if _, again := values[k]; again {
			continue
		}
		values[k] = int64(w.rng.IntN(1000))
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p.num, values[k]
		req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{Topic: p.topic.name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{rp}})
	}
	got := w.try(req)
	f := unknown
	if got != nil && w.stateCode(fmt.Sprintf("commit %v to %s", slices.Sorted(maps.Values(values)), group), got.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode) {
		f = acked
	}
	for k, v := range values {
		w.committed(k, v, f)
	}
}

// ofGroup returns what a group surely or possibly has committed.
func (w *world) ofGroup(group string) (out []slotKey) {
	for k := range w.groups {
		if k.group == group {
			out = append(out, k)
		}
	}
	for _, t := range w.openTxns() {
		for k := range t.offs {
			if k.group == group && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}

func (w *world) opDeleteGroup() {
	group := fmt.Sprintf("g%d", w.rng.IntN(3))
	keys := w.ofGroup(group)
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{group}
	got := w.try(req)
	f := unknown
	if got != nil {
		code := got.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode
		for _, k := range keys {
			if v := w.groups[k]; code == noGroup && len(v) == 1 && v[0] >= 0 {
				failf("delete group %s: there is none, and it has committed %d to %s-%d", group, v[0], k.topic.name, k.num)
			}
		}
		if code == noGroup {
			return
		}
		if w.stateCode("delete group "+group, code) {
			f = acked
		}
	}
	for _, k := range keys {
		w.committed(k, -1, f)
	}
}

func (w *world) opDeleteOffset() {
	p := w.pick()
	if p == nil {
		return
	}
	k := slotKey{fmt.Sprintf("g%d", w.rng.IntN(3)), p.topic, p.num}
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = k.group
	req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: p.topic.name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: p.num}}}}
	got := w.try(req)
	f := unknown
	if got != nil {
		resp := got.(*kmsg.OffsetDeleteResponse)
		if resp.ErrorCode == noGroup {
			if v := w.groups[k]; len(v) == 1 && v[0] >= 0 {
				failf("delete an offset of %s: there is no such group", k.group)
			}
			return
		}
		if w.stateCode("delete an offset of "+k.group, resp.ErrorCode) {
			f = acked
		}
	}
	w.committed(k, -1, f)
}
