package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/store"
)

// Fetch: record batches from some partitions, waiting until there are enough.
//
// Versions 4 and later; topics by id from 13 on. Every answer is of session 0,
// which is a broker's way to say that it keeps no sessions (KIP-227). Records
// are readable when they are durable, so the high watermark is also the last
// stable offset. A batch at the end may be cut, as Kafka does; clients ask
// again from the last whole one.
var fetchAPI = api{key: kmsg.Fetch, min: 4, max: 16, handle: handleFetch}

// maxWait bounds what a client may ask to wait.
const maxWait = time.Minute

func handleFetch(s *Server, ctx context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.FetchRequest)
	if req.SessionID != 0 && req.SessionEpoch > 0 {
		return answer{fetch: &fetchAnswer{err: kerr.FetchSessionIDNotFound.Code}}, nil
	}
	f := s.newFetch(req)
	f.read(int64(min(max(req.MaxBytes, 0), s.FetchBytes)))
	if !f.enough(req) {
		s.awaitRecords(ctx, req, f)
	}
	s.Metrics.RecordBytesOut.add(f.bytes)
	return answer{fetch: f}, nil
}

// newFetch finds the logs of all partitions asked for.
func (s *Server) newFetch(req *kmsg.FetchRequest) *fetchAnswer {
	f := &fetchAnswer{topics: make([]fetchTopic, len(req.Topics))}
	for i, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		unknown := kerr.UnknownTopicOrPartition
		if req.Version >= 13 {
			t, unknown = s.Catalog.ByID(rt.TopicID), kerr.UnknownTopicID
		}
		f.topics[i] = fetchTopic{name: rt.Topic, id: rt.TopicID, parts: make([]fetchPart, len(rt.Partitions))}
		for j, rp := range rt.Partitions {
			f.topics[i].parts[j] = newFetchPart(t, rp)
			if t == nil {
				f.topics[i].parts[j].err = unknown.Code
			}
		}
	}
	return f
}

func newFetchPart(t *catalog.Topic, rp kmsg.FetchRequestTopicPartition) fetchPart {
	p := fetchPart{num: rp.Partition, hw: -1, start: -1, offset: rp.FetchOffset, maxSize: int64(max(rp.PartitionMaxBytes, 0))}
	log, err := logOf(t, rp.Partition)
	if err == nil {
		err = checkEpoch(log, rp.CurrentLeaderEpoch)
	}
	if err != nil {
		p.err = code(err)
		return p
	}
	p.log = log
	return p
}

// checkEpoch compares a client's leader epoch (-1: none) with ours; one that
// differs sends the client back for fresh metadata (KIP-320).
func checkEpoch(log *store.Log, epoch int32) error {
	switch {
	case epoch < 0 || epoch == log.Epoch():
		return nil
	case epoch < log.Epoch():
		return kerr.FencedLeaderEpoch
	}
	return kerr.UnknownLeaderEpoch
}

// read takes what there is, up to budget bytes in all, but always one batch.
func (f *fetchAnswer) read(budget int64) {
	f.release()
	f.bytes = 0
	for i := range f.topics {
		for j := range f.topics[i].parts {
			p := &f.topics[i].parts[j]
			if p.log == nil {
				continue
			}
			p.read(budget-f.bytes, f.bytes == 0)
			f.bytes += p.records.Len()
		}
	}
}

func (p *fetchPart) read(budget int64, one bool) {
	var err error
	if budget > 0 || one {
		p.records, err = p.log.Read(p.offset, max(min(budget, p.maxSize), 0), one)
	}
	p.start, p.hw = p.log.Bounds()
	p.err = code(err)
}

func (f *fetchAnswer) enough(req *kmsg.FetchRequest) bool {
	if req.MaxWaitMillis <= 0 || f.bytes >= int64(req.MinBytes) {
		return true
	}
	for i := range f.topics {
		for j := range f.topics[i].parts {
			if f.topics[i].parts[j].err != 0 {
				return true
			}
		}
	}
	return false
}

// awaitRecords waits for enough records or the time that the client gave.
func (s *Server) awaitRecords(ctx context.Context, req *kmsg.FetchRequest, f *fetchAnswer) {
	changed := make(chan struct{}, 1)
	f.eachLog(func(l *store.Log) { l.Watch(changed) })
	defer f.eachLog(func(l *store.Log) { l.Unwatch(changed) })
	t := time.NewTimer(min(time.Duration(req.MaxWaitMillis)*time.Millisecond, maxWait))
	defer t.Stop()
	for {
		// What came before the watch began must not be missed.
		f.read(int64(min(max(req.MaxBytes, 0), s.FetchBytes)))
		if f.enough(req) {
			return
		}
		select {
		case <-changed:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *fetchAnswer) eachLog(do func(*store.Log)) {
	for i := range f.topics {
		for j := range f.topics[i].parts {
			if l := f.topics[i].parts[j].log; l != nil {
				do(l)
			}
		}
	}
}
