package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/store"
)

// ShareFetch: acquires records of some partitions for a member of a share group
// (KIP-932), waiting until there are any, and takes acknowledgements of earlier
// ones.
//
// Version 0 was Kafka's early access. Batches are sent whole, whatever of them
// was acquired: a batch of more records than may be in flight is sent more than
// once. A client that wants whole batches (KIP-1206) has them within that
// limit; its batch size is a hint, and not needed. A session belongs to its
// connection; what it has acquired is given back when that ends. Answered when
// the acknowledgements are durable. Markers and, with read_committed, aborted
// records are nobody's, and need not be acknowledged.
var shareFetchAPI = api{key: kmsg.ShareFetch, min: 1, max: 2, handle: handleShareFetch}

func handleShareFetch(s *Server, ctx context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.ShareFetchRequest)
	group := deref(req.GroupID)
	f := &shareFetching{
		s: s, r: r, req: req, records: int64(req.MaxRecords),
		budget: int64(min(max(req.MaxBytes, 0), s.FetchBytes)),
		answer: &shareAnswer{lockMs: int32(s.Shares.LockDuration(group).Milliseconds())},
	}
	if err := f.begin(group, deref(req.MemberID)); err != nil {
		f.answer.fail(err)
		return answer{fetch: f.answer}, nil
	}
	f.acknowledge()
	switch {
	case req.ShareSessionEpoch == finalEpoch:
		r.from.endShares(f.session)
	case !req.IsRenewAck: // time spent here might be longer than that of the lock
		f.fetch(ctx)
	}
	f.answer.sort()
	s.Metrics.RecordBytesOut.add(f.answer.bytes)
	return answer{fetch: f.answer, later: &waiting[error]{ch: s.Shares.Settled(), none: kerr.CoordinatorNotAvailable, fill: func(err error) {
		if err != nil {
			f.session.Close()
			f.answer.fail(err)
		}
	}}}, nil
}

// shareFetching is the making of one answer.
type shareFetching struct {
	s       *Server
	r       *request
	req     *kmsg.ShareFetchRequest
	session *share.Session
	answer  *shareAnswer
	records int64 // that may still be acquired
	budget  int64
	topics  map[meta.ID]foundTopic // of this look

	absent int  // partitions that are not here or not the client's to read
	failed bool // reading one failed
}

type foundTopic struct {
	t   *catalog.Topic
	err error
}

// begin finds or makes the session that the request speaks of.
func (f *shareFetching) begin(group, member string) (err error) {
	if err := f.s.mayShare(f.r, group, member); err != nil {
		return err
	}
	if err := f.checkRenewal(); err != nil {
		return err
	}
	first := f.req.ShareSessionEpoch == 0
	if first {
		for _, rt := range f.req.Topics {
			for _, rp := range rt.Partitions {
				if len(rp.AcknowledgementBatches) > 0 {
					return kerr.InvalidRequest // it has acquired nothing
				}
			}
		}
		f.session, err = f.r.from.beginShares(group, member)
	} else {
		f.session, err = f.s.Shares.Resume(f.r.from, group, member, f.req.ShareSessionEpoch)
	}
	if err != nil || f.req.ShareSessionEpoch == finalEpoch {
		return err
	}
	for _, rt := range f.req.Topics {
		for _, rp := range rt.Partitions {
			if err := f.session.Add(share.Partition{Topic: rt.TopicID, Num: rp.Partition}); err != nil {
				f.r.from.endShares(f.session)
				return err
			}
		}
	}
	for _, rt := range f.req.ForgottenTopicsData {
		for _, num := range rt.Partitions {
			f.session.Forget(share.Partition{Topic: rt.TopicID, Num: num})
		}
	}
	return nil
}

// mayShare says whether a client may speak for a member.
func (s *Server) mayShare(r *request, group, member string) error {
	if err := s.refusedShares(r, kmsg.ACLOperationRead, group); err != nil {
		return err
	}
	if group == "" || !share.ValidMember(member) {
		return kerr.InvalidRequest
	}
	return nil
}

// checkRenewal checks a request that renews locks, which fetches nothing
// (KIP-1222).
func (f *shareFetching) checkRenewal() error {
	q := f.req
	if !q.IsRenewAck {
		return nil
	}
	if q.MaxBytes != 0 || q.MinBytes != 0 || q.MaxRecords != 0 || q.MaxWaitMillis != 0 {
		return kerr.InvalidRequest
	}
	return nil
}

// acknowledge takes the acknowledgements that came with the request.
func (f *shareFetching) acknowledge() {
	for _, rt := range f.req.Topics {
		for _, rp := range rt.Partitions {
			if len(rp.AcknowledgementBatches) == 0 {
				continue
			}
			acks := make([]share.Ack, len(rp.AcknowledgementBatches))
			for i, b := range rp.AcknowledgementBatches {
				acks[i] = share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes}
			}
			key := share.Partition{Topic: rt.TopicID, Num: rp.Partition}
			f.answer.part(key).ackErr = code(f.s.acknowledge(f.r, f.session, key, acks, f.req.IsRenewAck))
		}
	}
}

// fetch acquires records, waiting until there are enough.
func (f *shareFetching) fetch(ctx context.Context) {
	t := time.NewTimer(min(time.Duration(max(f.req.MaxWaitMillis, 0))*time.Millisecond, maxWait))
	defer t.Stop()
	late := f.req.MaxWaitMillis <= 0
	for {
		if late || f.req.MinBytes <= 1 || f.plenty() {
			f.look(f.take)
		}
		if late || f.failed || f.answer.bytes > 0 || f.absent == f.session.Count() || f.session.Ended() {
			return
		}
		select {
		case <-f.session.Wake():
		case <-t.C:
			late = true
		case <-ctx.Done():
			return
		}
	}
}

// look goes over the partitions that may have something.
func (f *shareFetching) look(each func(*share.Part, *store.Log) (more, stop bool)) {
	f.topics, f.absent = map[meta.ID]foundTopic{}, 0
	f.s.reads.begin()
	defer f.s.reads.end()
	f.session.Look(func(p *share.Part) (more, stop bool) {
		log, err := f.find(p.Partition)
		if err != nil {
			f.absent++
			f.answer.part(p.Partition).err = code(err)
			return true, false
		}
		if !p.Told { // a client hears of each partition once, whether it has anything or not
			p.Told = true
			f.answer.part(p.Partition)
		}
		return each(p, log)
	})
}

// plenty reports whether there are as many bytes as the client waits for.
func (f *shareFetching) plenty() bool {
	n, enough := int64(0), min(int64(f.req.MinBytes), f.budget)
	f.look(func(p *share.Part, log *store.Log) (more, stop bool) {
		got, err := p.Peek(log, f.budget)
		if err != nil {
			n = enough // take says what is wrong
		}
		n += got
		return got > 0 || err != nil, n >= enough
	})
	return n >= enough || f.absent == f.session.Count()
}

func (f *shareFetching) take(p *share.Part, log *store.Log) (more, stop bool) {
	if f.full() {
		return true, true
	}
	got, err := p.Take(log, share.Want{
		Records: f.records, Bytes: f.budget - f.answer.bytes, One: f.answer.bytes == 0,
		Whole: f.req.ShareAcquireMode == 0,
	})
	if err != nil {
		f.failed = true
		f.answer.part(p.Partition).err = code(err)
		return true, false
	}
	if got.Records != nil {
		out := f.answer.part(p.Partition)
		out.err, out.records, out.ranges = 0, got.Records, got.Ranges
		f.answer.bytes += got.Records.Len()
		for _, r := range got.Ranges {
			f.records -= r.Last - r.First + 1
		}
	}
	return got.More, f.full()
}

// full reports whether the client has what it may have.
func (f *shareFetching) full() bool {
	return f.records <= 0 || f.answer.bytes > 0 && f.answer.bytes >= f.budget
}

// find finds the log of a partition, if the client may read it.
func (f *shareFetching) find(key share.Partition) (*store.Log, error) {
	found, ok := f.topics[key.Topic]
	if !ok {
		found.t, found.err = f.s.groupTopic(f.r, kmsg.ACLOperationRead, "", key.Topic, true)
		f.topics[key.Topic] = found
	}
	if found.err != nil {
		return nil, found.err
	}
	return logOf(found.t, key.Num)
}
