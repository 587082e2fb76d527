package model

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The share group of the model is "s", with one member, which begins a new
// session each time: what it has acquired and not acknowledged comes back.
const (
	shareGroup  = "s"
	shareMember = "m"
	groupConfig = 32
)

// shareSet has the group begin at the start of logs, and deliver often.
func (w *world) shareSet() bool {
	if w.shareReady {
		return true
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = groupConfig, shareGroup
	for name, value := range map[string]string{"share.auto.offset.reset": "earliest", "share.delivery.count.limit": "100"} {
		res.Configs = append(res.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: &value})
	}
	req.Resources = append(req.Resources, res)
	got := w.try(req)
	w.shareReady = got != nil && w.stateCode("configure the share group", got.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	return w.shareReady
}

func (w *world) opShare() {
	p := w.pick()
	if p == nil || !w.shareSet() {
		return
	}
	ranges, ok := w.shareFetch(p, 0, int32(1+w.rng.IntN(8)))
	if ok && len(ranges) > 0 {
		w.shareSay(p, ranges)
	}
}

// shareFetch acquires records and compares them; false when that failed.
func (w *world) shareFetch(p *part, epoch, most int32) ([]kmsg.ShareFetchResponseTopicPartitionAcquiredRecord, bool) {
	group, member := shareGroup, shareMember
	req := kmsg.NewPtrShareFetchRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, &group, &member, epoch
	req.MaxRecords, req.MaxBytes, req.ShareAcquireMode = most, 1<<20, int8(w.rng.IntN(2))
	if epoch == 0 {
		req.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: p.topic.id, Partitions: []kmsg.ShareFetchRequestTopicPartition{{Partition: p.num}}}}
	}
	got := w.try(req)
	if got == nil {
		return nil, false
	}
	resp := got.(*kmsg.ShareFetchResponse)
	if !w.stateCode("share fetch of "+p.dir(), resp.ErrorCode) {
		return nil, false
	}
	if len(resp.Topics) == 0 {
		return nil, true
	}
	rp := resp.Topics[0].Partitions[0]
	switch {
	case rp.ErrorCode == 0:
	case w.excused(p):
		return nil, false
	default:
		failf("share fetch of %s: code %d", p.dir(), rp.ErrorCode)
	}
	w.shareDelivered(p, rp)
	return rp.AcquiredRecords, true
}

// shareDelivered judges what was acquired: it is there, as it was sent, and the
// group was not told before that it is done with.
func (w *world) shareDelivered(p *part, rp kmsg.ShareFetchResponseTopicPartition) {
	if len(rp.AcquiredRecords) == 0 {
		return
	}
	c, err := decode(rp.Records, rp.AcquiredRecords[0].FirstOffset)
	if err != nil {
		failf("share fetch of %s: %v", p.dir(), err)
	}
	w.extend(p)
	if last := rp.AcquiredRecords[len(rp.AcquiredRecords)-1].LastOffset; c.next <= last {
		failf("%s: acquired up to %d, the batches end at %d", p.dir(), last, c.next)
	}
	for _, r := range c.reads {
		if r.batch >= 0 {
			w.same(p, r)
		}
	}
	done := w.shared[p]
	for _, a := range rp.AcquiredRecords {
		w.notef("  acquired %d to %d, delivery %d", a.FirstOffset, a.LastOffset, a.DeliveryCount)
		for o := a.FirstOffset; o <= a.LastOffset; o++ {
			if f, ok := done[o]; ok && f == acked {
				failf("%s: offset %d is delivered to the share group, which was told that it is done with", p.dir(), o)
			}
			delete(done, o)
		}
	}
}

// shareSay acknowledges what was acquired: each range in one way.
func (w *world) shareSay(p *part, ranges []kmsg.ShareFetchResponseTopicPartitionAcquiredRecord) {
	group, member := shareGroup, shareMember
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, &group, &member, 1
	rp := kmsg.NewShareAcknowledgeRequestTopicPartition()
	rp.Partition = p.num
	if w.shared[p] == nil {
		w.shared[p] = map[int64]fate{}
	}
	done := w.shared[p]
	var said []int64
	for _, a := range ranges {
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset = a.FirstOffset, a.LastOffset
		for o := a.FirstOffset; o <= a.LastOffset; o++ {
			t := []int8{1, 1, 2, 3}[w.rng.IntN(4)]
			if b.AcknowledgeTypes = append(b.AcknowledgeTypes, t); t != 2 {
				said = append(said, o)
				done[o] = unknown
			}
		}
		rp.AcknowledgementBatches = append(rp.AcknowledgementBatches, b)
	}
	req.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: p.topic.id, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{rp}}}
	got := w.try(req)
	if got == nil || !w.stateCode("acknowledge in "+p.dir(), got.(*kmsg.ShareAcknowledgeResponse).ErrorCode) {
		return
	}
	if code := got.(*kmsg.ShareAcknowledgeResponse).Topics[0].Partitions[0].ErrorCode; code != 0 {
		failf("acknowledge in %s: code %d", p.dir(), code)
	}
	for _, o := range said {
		done[o] = acked
	}
}

// opShareAll has the group take all there is of a partition: nothing is lost.
func (w *world) opShareAll() {
	p := w.pick()
	if p == nil || !w.shareSet() {
		return
	}
	taken := map[int64]bool{}
	for epoch := int32(0); ; epoch++ {
		ranges, ok := w.shareFetch(p, epoch, 500)
		if !ok {
			return
		}
		for _, a := range ranges {
			for o := a.FirstOffset; o <= a.LastOffset; o++ {
				taken[o] = true
			}
		}
		if len(ranges) == 0 {
			break
		}
	}
	end := p.end
	start, _ := w.list(p, -2, false)
	w.moved(p, start)
	for o, r := range w.readAll(p, start, end) {
		if _, done := w.shared[p][o]; r.batch >= 0 && !done && !taken[o] {
			failf("%s: offset %d (batch %d) is lost to the share group", p.dir(), o, r.batch)
		}
	}
}

// opShareForget deletes the group: it begins anew.
func (w *world) opShareForget() {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{shareGroup}
	got := w.try(req)
	f := unknown
	if got != nil {
		code := got.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode
		if code == noGroup {
			for p, done := range w.shared {
				for o, f := range done {
					if f == acked && w.topics[p.topic.name] == p.topic && p.topic.limbo == "" {
						failf("delete the share group: there is none, and it is done with %d of %s", o, p.dir())
					}
				}
			}
			return
		}
		if w.stateCode("delete the share group", code) {
			f = acked
		}
	}
	for _, done := range w.shared {
		for o := range done {
			if f == acked {
				delete(done, o)
			} else {
				done[o] = unknown
			}
		}
	}
}
