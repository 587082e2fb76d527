package server

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/store"
)

// Fetch: record batches from some partitions, waiting until there are enough.
//
// Versions 4 and later; topics by id from 13 on; sessions (KIP-227) from 7 on.
// A session belongs to its connection: a client that comes back by another is
// told that the session is not found, and sends all again. Records are
// readable when they are durable; with read_committed, up to the last stable
// offset, with the list of aborted transactions. A batch at the end may be
// cut, as Kafka does; clients ask again from the last whole one. zstd is not
// sent before version 10, which is when clients may be told of it (KIP-110).
// Left out: what is for other brokers (replica ids, diverging epochs, and
// reading from followers) since there are none.
var fetchAPI = api{key: kmsg.Fetch, min: 4, max: 18, handle: handleFetch}

// maxWait bounds what a client may ask to wait.
const maxWait = time.Minute

func handleFetch(s *Server, ctx context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.FetchRequest)
	session, err := s.session(r.from, req)
	if err != nil {
		return answer{fetch: &fetchAnswer{err: code(err)}}, nil
	}
	f := &fetching{
		s: s, r: r, req: req, session: session,
		budget: int64(min(max(req.MaxBytes, 0), s.FetchBytes)),
	}
	if req.SessionEpoch <= 0 || req.Version < 7 {
		f.takeAll()
	}
	f.look()
	if !f.enough() {
		f.await(ctx)
	}
	s.Metrics.RecordBytesOut.add(f.bytes)
	return answer{fetch: f.answer()}, nil
}

// fetching is the making of one answer.
type fetching struct {
	s       *Server
	r       *request
	req     *kmsg.FetchRequest
	session *fetchSession
	budget  int64

	parts  []fetchPart // the answer
	of     []*wanted   // whose they are
	all    bool        // every partition is answered, not only what is new
	bytes  int64       // of all records
	absent int         // partitions that are not here or not the client's to read
	failed bool        // reading one failed
	more   bool        // one has more than was taken
}

// takeAll makes a place in the answer for every partition, as asked.
func (f *fetching) takeAll() {
	f.all = true
	f.of = slices.Clone(f.session.queue)
	f.parts = make([]fetchPart, len(f.of))
	for i, p := range f.of {
		p.at = int32(i)
	}
}

// look reads the partitions in the queue, up to the budget. Those that had
// something go to its end, so that in a session each has its turn.
func (f *fetching) look() {
	s := f.session
	s.rouse()
	s.looks++
	f.absent = 0
	f.s.reads.begin()
	defer f.s.reads.end()
	rest, unserved, again := s.queue, s.queue[:0], s.again
	for len(rest) > 0 && (f.bytes == 0 || f.bytes < f.budget) {
		p := rest[0]
		rest = rest[1:]
		if p.stale && !p.gone {
			f.read(p)
		}
		switch {
		case p.gone:
			p.queued = false
		case p.stale:
			unserved = append(unserved, p) // in place: it stays ahead of those that had something
		case p.at >= 0 && f.parts[p.at].records != nil:
			again = append(again, p)
		default:
			p.queued = false
		}
	}
	n := len(unserved) + copy(s.queue[len(unserved):], rest)
	clear(s.queue[n:])
	s.queue = append(s.queue[:n], again...)
	clear(again)
	s.again = again[:0]
}

// read reads a partition, in place of what was read of it before.
func (f *fetching) read(p *wanted) {
	if p.at >= 0 {
		f.bytes -= f.parts[p.at].records.Len()
		f.parts[p.at].release()
	}
	got := fetchPart{topic: p.topic, num: p.num, hw: -1, stable: -1, start: -1}
	p.stale = false
	err := f.find(p)
	if err != nil {
		f.absent++
	} else {
		if f.session.id != 0 {
			p.watch() // before reading: what comes after it is told
		}
		if err = f.records(p, &got); err != nil {
			f.failed = true
		}
	}
	if err != nil {
		got.fail(p, err)
		p.stale = true
	}
	f.bytes += got.records.Len()
	f.put(p, got)
}

// put puts what was read of a partition into the answer, if it is news.
func (f *fetching) put(p *wanted, got fetchPart) {
	switch {
	case p.at >= 0:
		f.parts[p.at] = got
	case got.err != 0 || got.records != nil || p.told != got.bounds():
		p.at = int32(len(f.parts))
		f.parts, f.of = append(f.parts, got), append(f.of, p)
	}
}

// find finds the log of a partition, if the client may read it.
func (f *fetching) find(p *wanted) error {
	t := p.topic
	if t.looked != f.session.looks {
		t.looked = f.session.looks
		t.found, t.err = f.findTopic(t)
	}
	if t.err != nil {
		return t.err
	}
	log, err := logOf(t.found, p.num)
	if err != nil {
		return err
	}
	if log != p.log {
		p.unwatch()
		p.log = log
	}
	return checkEpoch(log, p.epoch)
}

func (f *fetching) findTopic(t *wantedTopic) (*catalog.Topic, error) {
	var found *catalog.Topic
	unknown := kerr.UnknownTopicOrPartition
	if f.session.byID {
		found, unknown = f.s.Catalog.ByID(t.id), kerr.UnknownTopicID
	} else {
		found = f.s.Catalog.Get(t.name)
	}
	switch {
	case found == nil:
		return nil, unknown
	case !f.s.allowed(f.r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, found.Name):
		return nil, kerr.TopicAuthorizationFailed
	}
	return found, nil
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

// records reads batches of p, always one if the answer has none yet.
func (f *fetching) records(p *wanted, got *fetchPart) (err error) {
	max, one := min(f.budget-f.bytes, int64(p.maxBytes)), f.bytes == 0
	committed := f.req.IsolationLevel == 1
	if committed {
		got.records, err = p.log.ReadCommitted(p.offset, max, one)
	} else {
		got.records, err = p.log.Read(p.offset, max, one)
	}
	if err != nil {
		return err
	}
	got.start, got.stable, got.hw = p.log.Bounds3()
	if got.records == nil {
		if p.offset < got.stable || !committed && p.offset < got.hw {
			// Its first batch is larger than what is left, and it has its turn
			// next; or it came just now.
			p.stale, f.more = true, f.more || !one
		}
		return nil
	}
	if f.req.Version < 10 {
		if err := got.cutZstd(); err != nil {
			return err
		}
	}
	if committed {
		got.aborted, err = p.log.AbortedIn(got.records, p.offset)
	}
	f.more = f.more || got.records.More()
	return err
}

func (f *fetching) enough() bool {
	return f.req.MaxWaitMillis <= 0 || f.failed || f.more || f.absent == f.session.count ||
		f.bytes >= min(int64(f.req.MinBytes), f.budget)
}

// await waits for enough records or the time that the client gave.
func (f *fetching) await(ctx context.Context) {
	s := f.session
	if s.id == 0 {
		if !f.s.sessions.take(0, s.count) {
			return // there is no room to wait
		}
		defer f.s.sessions.give(0, s.count)
		defer s.unwatch()
		for _, p := range f.of {
			if p.watch(); p.moved(&f.parts[p.at]) { // before the watch began
				s.enqueue(p)
			}
		}
	}
	t := time.NewTimer(min(time.Duration(f.req.MaxWaitMillis)*time.Millisecond, maxWait))
	defer t.Stop()
	for {
		f.look()
		if f.enough() {
			return
		}
		select {
		case <-s.wake:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// answer is what was read. The session remembers what its client knows now.
func (f *fetching) answer() *fetchAnswer {
	out := &fetchAnswer{session: f.session.id, parts: f.parts, bytes: f.bytes}
	for i, p := range f.of {
		got := &f.parts[i]
		if f.all && p.stale && got.err == 0 { // not read for want of budget
			f.bounds(p, got)
		}
		if out.broker == "" && got.err == kerr.FencedLeaderEpoch.Code {
			out.broker, out.port = f.s.advertise(f.r)
		}
		p.told = got.bounds()
		p.at = -1
		p.stale = p.stale || p.queued
	}
	return out
}

// bounds answers a partition without records.
func (f *fetching) bounds(p *wanted, got *fetchPart) {
	*got = fetchPart{topic: p.topic, num: p.num, hw: -1, stable: -1, start: -1}
	if err := f.find(p); err != nil {
		got.fail(p, err)
		return
	}
	got.start, got.stable, got.hw = p.log.Bounds3()
}
