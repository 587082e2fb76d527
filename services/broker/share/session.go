package share

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/store"
)

// Session is what one member fetches by one connection: partitions, and what
// it has acquired in them, which is given back when the session ends. Methods
// other than Close are called by that connection's goroutine alone.
//
// Partitions that may have something stand in a queue; one that had nothing
// leaves it until its log or its window changes.
type Session struct {
	m     *Manager
	group *group
	key   sessionKey
	owner any
	epoch int32 // that the next request must have; guarded by the manager's lock
	count int   // of Manager.parts; guarded by the manager's lock
	parts map[Partition]*Part
	queue []*Part

	mu    sync.Mutex
	ended bool
	held  map[*partition]bool // in which it has acquired anything
	watch map[*Part]bool      // those that are watched
	woken []*Part
	wake  chan struct{}
}

type sessionKey struct{ group, member string }

// Part is a partition that a session fetches.
type Part struct {
	Partition
	// Told says that the client has had an answer for it.
	Told bool
	s    *Session
	p    *partition // nil: not found yet

	queued, gone bool
	woken        bool // under s.mu
}

// Open begins a session for a member, in the place of the one it had. owner is
// what it belongs to, and must be comparable.
func (m *Manager) Open(owner any, groupID, member string) (*Session, error) {
	key := sessionKey{groupID, member}
	m.mu.Lock()
	old := m.sessions[key]
	m.mu.Unlock()
	old.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	g, err := m.group(groupID)
	switch {
	case err != nil:
		return nil, err
	case len(m.sessions) >= maxSessions || m.sessions[key] != nil:
		m.tidy(g)
		return nil, kerr.ShareSessionLimitReached
	}
	s := &Session{m: m, group: g, key: key, owner: owner, epoch: 1, parts: map[Partition]*Part{}, wake: make(chan struct{}, 1)}
	if m.sessions == nil {
		m.sessions = map[sessionKey]*Session{}
	}
	m.sessions[key] = s
	g.sessions++
	return s, nil
}

// Resume finds the session that a request goes on with, and counts its epoch.
// Epoch -1 is that of the last request.
func (m *Manager) Resume(owner any, groupID, member string, epoch int32) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[sessionKey{groupID, member}]
	switch {
	case s == nil || s.owner != owner:
		return nil, kerr.ShareSessionNotFound
	case epoch == -1:
		return s, nil
	case epoch != s.epoch:
		return nil, kerr.InvalidShareSessionEpoch
	}
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1
	}
	return s, nil
}

// Close ends a session and gives back what it holds; nil is none.
func (s *Session) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	held, watch, ended := s.held, s.watch, s.ended
	s.held, s.watch, s.ended = nil, nil, true
	s.mu.Unlock()
	if ended {
		return
	}
	for w := range watch {
		w.p.unwatch(w)
	}
	for p := range held {
		p.release(s)
	}
	s.rouse()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	delete(s.m.sessions, s.key)
	s.m.parts -= s.count
	s.count = 0
	s.group.sessions--
	s.m.tidy(s.group)
}

// Ended reports whether the session is over, by Close or because its member
// has begun another.
func (s *Session) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// hold notes that the session has acquired something; false if it is over.
func (s *Session) hold(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.held == nil {
		s.held = map[*partition]bool{}
	}
	s.held[p] = true
	return true
}

// watches notes that a partition is watched for the session; false if it is
// over.
func (s *Session) watches(w *Part) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.watch == nil {
		s.watch = map[*Part]bool{}
	}
	s.watch[w] = true
	return true
}

// Add has a partition fetched from now on.
func (s *Session) Add(key Partition) error {
	if s.parts[key] != nil {
		return nil
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch {
	case s.Ended():
		return kerr.ShareSessionNotFound
	case s.m.parts >= maxParts:
		return kerr.ShareSessionLimitReached
	}
	s.m.parts++
	s.count++
	w := &Part{Partition: key, s: s}
	s.parts[key] = w
	s.enqueue(w)
	return nil
}

// Forget has a partition fetched no more.
func (s *Session) Forget(key Partition) {
	w := s.parts[key]
	if w == nil {
		return
	}
	delete(s.parts, key)
	w.gone = true
	if w.p != nil {
		w.p.unwatch(w)
		s.mu.Lock()
		delete(s.watch, w)
		s.mu.Unlock()
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.count > 0 { // else it is over, and they are counted out
		s.m.parts--
		s.count--
	}
}

// Count is how many partitions are fetched.
func (s *Session) Count() int { return len(s.parts) }

// Wake receives when a partition that had nothing may have something, and when
// the session ends.
func (s *Session) Wake() <-chan struct{} { return s.wake }

// Changed queues the partition for the next look. See store.Watcher.
func (w *Part) Changed() {
	w.s.mu.Lock()
	if !w.woken {
		w.woken = true
		w.s.woken = append(w.s.woken, w)
	}
	w.s.mu.Unlock()
	w.s.rouse()
}

// rouse ends the wait of who waits for Wake.
func (s *Session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Session) enqueue(w *Part) {
	if !w.queued && !w.gone {
		w.queued = true
		s.queue = append(s.queue, w)
	}
}

// Look calls each for partitions in the queue until it says to stop. A
// partition stays in it when each says that there is more, behind the others.
func (s *Session) Look(each func(*Part) (more, stop bool)) {
	s.mu.Lock()
	for i, w := range s.woken {
		w.woken = false
		s.enqueue(w)
		s.woken[i] = nil
	}
	s.woken = s.woken[:0]
	s.mu.Unlock()
	var again []*Part
	rest := s.queue
	for stop := false; len(rest) > 0 && !stop; {
		w := rest[0]
		rest = rest[1:]
		if w.gone {
			continue
		}
		w.queued = false
		var more bool
		if more, stop = each(w); more {
			w.queued = true
			again = append(again, w)
		}
	}
	s.queue = append(append(make([]*Part, 0, len(rest)+len(again)), rest...), again...)
}

// of is a partition of the session's group. Once the session is over the group
// may be another; then it is one that has nothing.
func (s *Session) of(key Partition, log *store.Log) *partition {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.Ended() {
		return &partition{m: s.m, group: s.group, key: key, log: log, closed: true}
	}
	return s.m.partition(s.group, key, log)
}

// Take acquires records of a partition, whose log is log, and has the session
// told when there is more of it.
func (w *Part) Take(log *store.Log, q Want) (Taken, error) { return w.on(log).take(w.s, q) }

// Peek is how many bytes there are to take, at most most.
func (w *Part) Peek(log *store.Log, most int64) (int64, error) { return w.on(log).peek(most) }

func (w *Part) on(log *store.Log) *partition {
	if w.p == nil {
		w.p = w.s.of(w.Partition, log)
		w.p.watch(w)
	}
	return w.p
}

// Acknowledge does what the member says of records that it has acquired, all
// of it or nothing; renews allows acknowledgements of type Renew. It is durable
// when Settled says so.
func (s *Session) Acknowledge(key Partition, log *store.Log, acks []Ack, renews bool) error {
	if err := checkAcks(acks, renews); err != nil {
		return err
	}
	return s.of(key, log).acknowledge(s, acks)
}

// Settled receives nil when all that sessions have said is durable, or why
// that is not so.
func (m *Manager) Settled() <-chan error { return m.saver.settled() }
