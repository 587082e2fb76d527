package mqtt

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// retained are the retained messages, by topic; the state topic has them too.
type retained struct {
	mu       sync.Mutex
	messages map[string]*message
	total    int
	refused  prometheus.Counter
	arrivals uint64             // messages that came, counted
	flying   map[string]*flying // by topic, of those that wait for Kafka
}

// flying are messages of one topic that are on their way to Kafka. They may
// arrive after one that came later, of QoS 0 or by another transaction.
type flying struct {
	n    int
	last uint64 // arrival of the message that the topic has
}

// comes counts a message that will be kept when Kafka has it, until gone.
func (r *retained) comes(m *message) {
	if !m.retain {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals++
	m.arrival = r.arrivals
	f := r.flying[m.topic]
	if f == nil {
		f = &flying{}
		r.flying[m.topic] = f
	}
	f.n++
}

// gone ends what comes has begun.
func (r *retained) gone(m *message) {
	if m.arrival == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flying[m.topic]; f != nil {
		if f.n--; f.n == 0 {
			delete(r.flying, m.topic)
		}
	}
}

// retainedCost is what an entry takes in memory.
func retainedCost(m *message) int {
	if m == nil || len(m.payload) == 0 {
		return 0
	}
	return m.size() + 512
}

// fits reports whether a message may be kept. One without payload ends the
// retained message of its topic (3.3.1-6), and always fits.
func (r *retained) fits(m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok := r.total-retainedCost(r.messages[m.topic])+retainedCost(m) <= maxRetained
	if !ok {
		r.refused.Inc()
	}
	return ok
}

// set keeps a message, or ends what was kept, and returns what the topic has
// then: a later message if one was there before, one without payload for
// none. Called with mu held.
func (r *retained) set(m *message) *message {
	if f := r.flying[m.topic]; f != nil {
		at := m.arrival
		if at == 0 { // nobody waits for it: it comes now
			r.arrivals++
			at = r.arrivals
		}
		if at < f.last {
			if now := r.messages[m.topic]; now != nil {
				return now
			}
			return &message{topic: m.topic}
		}
		f.last = at
	}
	m.own()
	r.total += retainedCost(m) - retainedCost(r.messages[m.topic])
	if len(m.payload) == 0 {
		delete(r.messages, m.topic)
		return m
	}
	kept := *m
	kept.at = place{}
	r.messages[m.topic] = &kept
	return m
}

// match lists the retained messages of a filter.
func (r *retained) match(filter string) (found []*message) {
	levels := strings.Split(filter, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.ContainsAny(filter, "+#") {
		if m := r.messages[filter]; m != nil {
			found = append(found, m)
		}
		return found
	}
	for topic, m := range r.messages {
		if match(levels, topic) {
			found = append(found, m)
		}
	}
	return found
}

func (r *retained) get(topic string) *message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[topic]
}

// retainedRecord is what the state topic keeps of a message.
func retainedRecord(m *message) *kgo.Record {
	r := m.record(StateTopic, time.Now())
	r.Key = []byte(keyRetained + m.topic)
	if len(m.payload) == 0 {
		r.Value, r.Headers = nil, nil
	}
	return r
}
