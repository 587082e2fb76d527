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

// set keeps a message, or ends what was kept.
func (r *retained) set(m *message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += retainedCost(m) - retainedCost(r.messages[m.topic])
	if len(m.payload) == 0 {
		delete(r.messages, m.topic)
		return
	}
	kept := *m
	kept.at = place{}
	r.messages[m.topic] = &kept
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
