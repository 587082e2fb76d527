package mqtt

import (
	"strings"
	"sync"
	"time"
)

// Bounds of one client are none where it may come under any number of names:
// these are of all of them, those that are away included, and a restart keeps
// to them.

// recountEvery bounds the time that counting subscriptions may take.
const recountEvery = 100 * time.Millisecond

// index counts what subscriptions take.
type index struct {
	mu      sync.Mutex
	bytes   int64 // with subscriptions that have ended since counted
	counted time.Time
	told    time.Time
}

// filterCost is what a subscription takes in memory: its session has the
// filter, and of the library's index each level may be a node of half a KiB.
func filterCost(filter string) int64 {
	return 256 + 2*int64(len(filter)) + 512*int64(1+strings.Count(filter, "/"))
}

// roomInIndex takes room for a subscription that is new.
func (c *Connector) roomInIndex(filter string) bool {
	x, n := &c.index, filterCost(filter)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bytes+n > maxIndex && time.Since(x.counted) > recountEvery {
		x.bytes = 0
		for id := range c.server.Clients.GetAll() {
			for f := range c.subscriptions(id) {
				x.bytes += filterCost(f)
			}
		}
		x.counted = time.Now()
	}
	if x.bytes+n > maxIndex {
		if time.Since(x.told) > time.Minute {
			x.told = time.Now()
			c.log.Warn("subscriptions take all the room there is, more are refused", "bytes", maxIndex)
		}
		return false
	}
	x.bytes += n
	return true
}

// smallWill is of wills that do not count: the number of sessions bounds them.
const smallWill = 1 << 10

// roomForWill reports whether all wills together leave room for one of a
// session.
func (c *Connector) roomForWill(of *session, m *message) bool {
	total := m.size()
	if total <= smallWill {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		if s != of {
			total += s.willBytes()
		}
	}
	return total <= maxWills
}

// willBytes is what the session's wills take.
func (s *session) willBytes() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.willed != nil {
		n += s.willed.message("", "").size()
	}
	if s.conn != nil && s.conn.will != nil {
		n += s.conn.will.size()
	}
	if n <= smallWill {
		return 0
	}
	return n
}
