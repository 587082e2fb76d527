package replicator

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ofPartition is true for errors that are about one partition's records, and
// not about the producer or the way to the destination.
func ofPartition(err error) bool {
	for _, of := range []error{
		kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InvalidTopicException,
		kerr.PolicyViolation, kerr.CorruptMessage, kerr.UnsupportedCompressionType,
	} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// broke notes that the producer cannot go on. A new one learns from the
// destination what has arrived.
func (l *link) broke(err error) {
	l.dstFailed(err)
	l.opened = false
	l.fails++
	l.retry = time.Now().Add(l.pace.backoff(l.fails))
}

// unfetch has the lane's client fetch a partition no more.
func (l *link) unfetch(p *partition) {
	l.halt(p.lane)
	p.lane.src.RemoveConsumePartitions(map[string][]int32{p.topic: {p.num}})
	if p.lane.whole != nil {
		p.lane.whole.remove(p.topic, p.num)
	}
}

// stop ends the fetching of a partition until its next try.
func (l *link) stop(p *partition, err error) {
	l.unfetch(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	p.reset()
	p.err, p.fresh = err, true // what was refused may be there: an answer got lost, its repetition was refused
	p.fails++
	p.retry = time.Now().Add(l.pace.backoff(p.fails))
	l.metrics.stops.Inc()
	if p.fails == 1 {
		l.log.Warn("partition is stopped and will be tried again", "topic", p.topic, "partition", p.num, "offset", p.next, "error", err)
	}
}

// onDataLoss is franz-go's word for a destination that has lost what it had
// acknowledged.
func (l *link) onDataLoss(topic string, num int32) {
	l.log.Warn("the destination lost acknowledged records", "topic", topic, "partition", num)
	l.note(topic, fmt.Sprintf("%s/%d: the destination lost acknowledged records", topic, num))
}

func (l *link) note(topic, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes[topic] = text
}

// countResent is called under l.mu.
func (l *link) countResent(n int64) {
	l.resent += n
	l.metrics.resent.Add(float64(n))
}
