// Package quota bounds what clients use: bytes produced and consumed, time
// of the broker, and changes, by user, by client id and by both. It says for
// how long somebody has to be left alone; the server does so.
package quota

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Names of quotas, as Kafka has them.
const (
	Produce     = "producer_byte_rate"       // bytes per second
	Consume     = "consumer_byte_rate"       // bytes per second
	Request     = "request_percentage"       // of one core's time
	Mutation    = "controller_mutation_rate" // partitions made or deleted per second
	Connections = "connection_creation_rate" // connections per second, by IP address
)

// Names are all there are.
var Names = []string{Produce, Consume, Request, Mutation, Connections}

// ForIP reports whether a quota is one of addresses; all others are of users
// and client ids.
func ForIP(name string) bool { return name == Connections }

const (
	// burst is how much may be used at once, in seconds of the quota.
	burst = 1.0
	// longest bounds for how long anybody is left alone.
	longest = time.Hour
	// maxBuckets bounds how many are remembered; whoever invents client ids
	// gets none of our memory.
	maxBuckets = 10000
)

// Manager holds quotas and what has been used of them. Safe for concurrent
// use.
type Manager struct {
	limits atomic.Pointer[limits] // nil: there is no quota at all

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
}

// New returns a manager of some quotas.
func New(quotas []meta.Quota) *Manager {
	m := &Manager{buckets: map[bucketKey]*bucket{}}
	m.Set(quotas)
	return m
}

// Set replaces all quotas. What has been used stays used.
func (m *Manager) Set(quotas []meta.Quota) { m.limits.Store(newLimits(quotas)) }

// Active reports whether there is any quota. It is all that a request costs
// where there is none.
func (m *Manager) Active() bool { return m.limits.Load() != nil }

// Charge takes n of a quota and returns for how long the client must be left
// alone; 0 within the quota.
func (m *Manager) Charge(name, user, client string, n float64) time.Duration {
	l := m.limits.Load()
	if l == nil || n <= 0 {
		return 0
	}
	rate, key, ok := l.find(name, user, client)
	if !ok {
		return 0
	}
	return m.take(key, rate, n)
}

// Connect takes one connection from an address. Above the quota it takes none
// and says how long the address has to wait.
func (m *Manager) Connect(ip string) time.Duration {
	l := m.limits.Load()
	if l == nil {
		return 0
	}
	rate, key, ok := l.findIP(ip)
	if !ok {
		return 0
	}
	wait := m.take(key, rate, 1)
	if wait > 0 {
		m.take(key, rate, -1) // or trying would cost as much as coming in
	}
	return wait
}

// Limit is a client's quota per second; false: it has none.
func (m *Manager) Limit(name, user, client string) (float64, bool) {
	l := m.limits.Load()
	if l == nil {
		return 0, false
	}
	rate, _, ok := l.find(name, user, client)
	return rate, ok
}

func (m *Manager) take(key bucketKey, rate, n float64) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.buckets[key]
	if b == nil {
		if len(m.buckets) >= maxBuckets {
			m.forget()
		}
		b = &bucket{have: most(rate), at: time.Now()}
		m.buckets[key] = b
	}
	return b.take(rate, n)
}

// forget drops buckets that are full again, or else all of them.
func (m *Manager) forget() {
	for key, b := range m.buckets {
		if b.have >= 0 && time.Since(b.at) > time.Second {
			delete(m.buckets, key)
		}
	}
	if len(m.buckets) >= maxBuckets {
		clear(m.buckets)
	}
}

// bucket is a token bucket that may go into debt: what has been done is done,
// and paid for by waiting.
type bucket struct {
	have float64
	at   time.Time
}

// most is what a bucket holds; of connections less than one would be none
// ever.
func most(rate float64) float64 { return max(rate*burst, 1) }

func (b *bucket) take(rate, n float64) time.Duration {
	now := time.Now()
	b.have = min(b.have+now.Sub(b.at).Seconds()*rate, most(rate))
	b.at = now
	b.have -= n
	if b.have >= 0 {
		return 0
	}
	if rate <= 0 {
		return longest
	}
	return time.Duration(min(-b.have/rate, longest.Seconds()) * float64(time.Second))
}
