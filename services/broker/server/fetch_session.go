package server

import (
	"math"
	"math/rand/v2"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// Limits of what fetches remember, of all clients together. A client beyond
// them gets no session, which costs it longer requests and nothing else.
const (
	maxSessions     = 1000 // Kafka's max.incremental.fetch.session.cache.slots
	maxSessionParts = 200_000
	finalEpoch      = -1 // of requests that want no session
)

// sessions counts what all fetch sessions hold. A session belongs to its
// connection and ends with it.
type sessions struct {
	mu          sync.Mutex
	open, parts int
}

// take makes room for n partitions more, and for a session if it is new.
func (ss *sessions) take(session, n int) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.open+session > maxSessions || ss.parts+n > maxSessionParts {
		return false
	}
	ss.open += session
	ss.parts += n
	return true
}

func (ss *sessions) give(session, n int) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.open -= session
	ss.parts -= n
}

// close ends a session; nil is none.
func (ss *sessions) close(f *fetchSession) {
	if f == nil {
		return
	}
	f.unwatch()
	ss.give(1, f.count)
}

// fetchSession is what one client fetches: partitions, and from where in each
// (KIP-227). A fetch that wants no session has one for a single request.
//
// Partitions that may have something new stand in a queue; one that had
// nothing leaves it until its log changes. So a poll of ten thousand idle
// partitions costs no more than one of ten.
type fetchSession struct {
	id     int32    // 0: for one request
	epoch  int32    // that the next request must have
	byID   bool     // topics are named by id (version 13 and later)
	slab   []wanted // for the next partitions
	looks  int64    // so far
	count  int
	topics map[any]*wantedTopic // by name or id
	queue  []*wanted
	again  []*wanted // scratch of look

	mu    sync.Mutex
	woken []*wanted
	wake  chan struct{}
}

type wantedTopic struct {
	name  string
	id    meta.ID
	parts map[int32]*wanted

	looked int64 // number of the look that the rest is of
	found  *catalog.Topic
	err    error // why the client may not read it
}

// wanted is one partition that a client fetches.
type wanted struct {
	session  *fetchSession
	topic    *wantedTopic
	log      *store.Log // nil: to be found
	offset   int64
	told     bounds // what the client knows; it hears of changes only
	num      int32
	epoch    int32 // leader epoch that the client knows, or -1
	maxBytes int32
	at       int32 // place in the answer being made, or -1
	watching bool
	queued   bool
	stale    bool // something else might be read than was
	gone     bool // forgotten while in the queue
	woken    bool // under session.mu
}

// bounds of a log.
type bounds struct{ start, stable, hw int64 }

func newFetchSession(byID bool) *fetchSession {
	return &fetchSession{byID: byID, topics: map[any]*wantedTopic{}, wake: make(chan struct{}, 1)}
}

// Changed queues the partition for the next look. See store.Watcher.
func (p *wanted) Changed() {
	s := p.session
	s.mu.Lock()
	if !p.woken {
		p.woken = true
		s.woken = append(s.woken, p)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// rouse moves what has changed into the queue.
func (f *fetchSession) rouse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.woken {
		p.woken = false
		f.enqueue(p)
		f.woken[i] = nil
	}
	f.woken = f.woken[:0]
}

func (f *fetchSession) enqueue(p *wanted) {
	p.stale = true
	if !p.queued && !p.gone {
		p.queued = true
		f.queue = append(f.queue, p)
	}
}

func (f *fetchSession) key(name string, id meta.ID) any {
	if f.byID {
		return id
	}
	return name
}

// add takes the partitions of a request, new ones and changed ones.
func (f *fetchSession) add(topics []kmsg.FetchRequestTopic) {
	for i := range topics {
		rt := &topics[i]
		k := f.key(rt.Topic, rt.TopicID)
		t := f.topics[k]
		if t == nil {
			t = &wantedTopic{name: rt.Topic, id: rt.TopicID, parts: make(map[int32]*wanted, len(rt.Partitions))}
			f.topics[k] = t
		}
		for j := range rt.Partitions {
			f.addPart(t, &rt.Partitions[j])
		}
	}
}

// next makes place for a partition; many are made at once.
func (f *fetchSession) next() *wanted {
	if len(f.slab) == 0 {
		f.slab = make([]wanted, 32)
	}
	p := &f.slab[0]
	f.slab = f.slab[1:]
	return p
}

func (f *fetchSession) addPart(t *wantedTopic, rp *kmsg.FetchRequestTopicPartition) {
	p := t.parts[rp.Partition]
	if p == nil {
		p = f.next()
		*p = wanted{session: f, topic: t, num: rp.Partition, at: -1, told: bounds{-2, -2, -2}}
		t.parts[rp.Partition] = p
		f.count++
	}
	p.epoch, p.offset, p.maxBytes = rp.CurrentLeaderEpoch, rp.FetchOffset, max(rp.PartitionMaxBytes, 0)
	f.enqueue(p)
}

// missing is how many partitions of a request the session does not have.
func (f *fetchSession) missing(topics []kmsg.FetchRequestTopic) int {
	n := 0
	for i := range topics {
		t := f.topics[f.key(topics[i].Topic, topics[i].TopicID)]
		for j := range topics[i].Partitions {
			if t == nil || t.parts[topics[i].Partitions[j].Partition] == nil {
				n++
			}
		}
	}
	return n
}

// forget drops partitions and returns how many.
func (f *fetchSession) forget(topics []kmsg.FetchRequestForgottenTopic) int {
	before := f.count
	for _, rt := range topics {
		k := f.key(rt.Topic, rt.TopicID)
		t := f.topics[k]
		if t == nil {
			continue
		}
		for _, num := range rt.Partitions {
			if p := t.parts[num]; p != nil {
				p.unwatch()
				p.gone = true
				delete(t.parts, num)
				f.count--
			}
		}
		if len(t.parts) == 0 {
			delete(f.topics, k)
		}
	}
	return before - f.count
}

func (p *wanted) watch() {
	if p.log != nil && !p.watching {
		p.log.Watch(p)
		p.watching = true
	}
}

// moved reports whether a log's bounds are others than those that were read.
func (p *wanted) moved(got *fetchPart) bool {
	if !p.watching {
		return false
	}
	var now bounds
	now.start, now.stable, now.hw = p.log.Bounds3()
	return now != got.bounds()
}

func (p *wanted) unwatch() {
	if p.watching {
		p.log.Unwatch(p)
		p.watching = false
	}
}

func (f *fetchSession) unwatch() {
	for _, t := range f.topics {
		for _, p := range t.parts {
			p.unwatch()
		}
	}
}

// session finds or makes the session that a request speaks of. The error is
// for the client; a request without a session gets one of its own, id 0.
func (s *Server) session(c *conn, req *kmsg.FetchRequest) (*fetchSession, error) {
	if req.Version >= 7 && req.SessionEpoch > 0 {
		return s.sessionOn(c.fetches, req)
	}
	if c != nil && c.fetches != nil && (req.SessionID == c.fetches.id || req.SessionEpoch == 0) {
		s.sessions.close(c.fetches)
		c.fetches = nil
	}
	f := newFetchSession(req.Version >= 13)
	f.add(req.Topics)
	if c == nil || req.Version < 7 || req.SessionEpoch == finalEpoch || f.count == 0 || !s.sessions.take(1, f.count) {
		return f, nil
	}
	f.id, f.epoch = 1+rand.Int32N(math.MaxInt32-1), 1
	c.fetches = f
	return f, nil
}

// sessionOn goes on with a session.
func (s *Server) sessionOn(f *fetchSession, req *kmsg.FetchRequest) (*fetchSession, error) {
	switch {
	case f == nil || f.id != req.SessionID:
		return nil, kerr.FetchSessionIDNotFound
	case f.epoch != req.SessionEpoch:
		return nil, kerr.InvalidFetchSessionEpoch
	case f.byID != (req.Version >= 13):
		return nil, kerr.FetchSessionTopicIDError
	}
	s.sessions.give(0, f.forget(req.ForgottenTopics))
	if n := f.missing(req.Topics); n > 0 && !s.sessions.take(0, n) {
		return nil, kerr.FetchSessionIDNotFound // without one, the client sends all again
	}
	// A partition named twice in one request was counted twice.
	before, n := f.count, f.missing(req.Topics)
	f.add(req.Topics)
	s.sessions.give(0, n-(f.count-before))
	if f.epoch++; f.epoch < 0 {
		f.epoch = 1
	}
	return f, nil
}
