package mqtt

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// feed reads the log at its end and offers each message to who subscribes to
// it, in the log's order. It runs while somebody listens.
type feed struct {
	c      *Connector
	topics []string // of Kafka

	start sync.Mutex // one start or stop at a time
	uses  int        // listeners; guarded by start
	stop  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex     // held while a message is offered
	turns map[string]int // of shared subscriptions: who is next

	posMu sync.Mutex
	next  map[part]int64 // offset after the last that was offered to everybody
}

func newFeed(c *Connector) *feed {
	f := &feed{c: c, turns: map[string]int{}, next: map[part]int64{}}
	seen := map[string]bool{}
	add := func(topic string) {
		if !seen[topic] {
			seen[topic] = true
			f.topics = append(f.topics, topic)
		}
	}
	for i := range c.routes {
		add(c.routes[i].Topic)
	}
	for i := range c.publications {
		add(c.publications[i].Topic)
	}
	return f
}

// positions is a copy of next.
func (f *feed) positions() map[part]int64 {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	return maps.Clone(f.next)
}

func (f *feed) set(p part, n int64) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	f.next[p] = n
}

// use counts a listener in, and returns when the feed is at the end of the
// log: what is stored from then on is offered.
func (f *feed) use(ctx context.Context, from map[part]int64) error {
	f.start.Lock()
	defer f.start.Unlock()
	if f.uses == 0 {
		if err := f.begin(ctx, from); err != nil {
			return err
		}
	}
	f.uses++
	return nil
}

// release counts a listener out.
func (f *feed) release() {
	f.start.Lock()
	defer f.start.Unlock()
	if f.uses--; f.uses == 0 {
		f.stop()
		<-f.ended
	}
}

func (f *feed) begin(ctx context.Context, from map[part]int64) error {
	cl, err := f.c.reader()
	if err != nil {
		return err
	}
	ends, err := logEnds(ctx, cl, f.topics...)
	if err != nil {
		cl.Close()
		return err
	}
	next, at := map[part]int64{}, map[string]map[int32]kgo.Offset{}
	for p, s := range ends {
		next[p] = s.end
		if f.c.retains(p.topic) { // from where it was last, or all of it
			next[p] = min(max(from[p], s.start), s.end)
		}
		addOffset(at, p, next[p])
	}
	f.posMu.Lock()
	f.next = next
	f.posMu.Unlock()
	cl.AddConsumePartitions(at)
	run, cancel := context.WithCancel(f.c.ctx)
	f.stop, f.ended = cancel, make(chan struct{})
	f.c.senders.Go(func() { f.run(run, cl) })
	return nil
}

func addOffset(to map[string]map[int32]kgo.Offset, p part, n int64) {
	if to[p.topic] == nil {
		to[p.topic] = map[int32]kgo.Offset{}
	}
	to[p.topic][p.n] = kgo.NewOffset().At(n)
}

func (f *feed) run(ctx context.Context, cl *kgo.Client) {
	defer close(f.ended)
	defer cl.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.discover(ctx, cl) })
	for ctx.Err() == nil {
		fetched, over, err := poll(ctx, cl)
		if err != nil && !errors.Is(err, context.Canceled) {
			f.c.log.Warn("messages are not read for subscribers", "error", err)
		}
		fetched.EachRecord(f.offer)
		for _, u := range over {
			f.c.passedOver(u)
			f.set(u.part, u.next)
		}
	}
}

// discover adds partitions that are made later, from their beginning.
func (f *feed) discover(ctx context.Context, cl *kgo.Client) {
	tick := time.NewTicker(discoverEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		ends, err := logEnds(ctx, cl, f.topics...)
		if err != nil {
			continue
		}
		added := map[string]map[int32]kgo.Offset{}
		f.posMu.Lock()
		for p, s := range ends {
			if _, known := f.next[p]; !known {
				f.next[p] = s.start
				addOffset(added, p, s.start)
			}
		}
		f.posMu.Unlock()
		if len(added) > 0 {
			cl.AddConsumePartitions(added)
		}
	}
}

// offer gives a record's message to its subscribers.
func (f *feed) offer(r *kgo.Record) {
	p := part{r.Topic, r.Partition}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !r.Attrs.IsControl() {
		if m, pub := f.c.messageOf(r); m != nil {
			if pub != nil && pub.Retain {
				f.c.retain(m)
			}
			if m.qos > 0 || pub != nil {
				f.fanOut(m, (*session).offer)
			}
		}
	}
	f.set(p, r.Offset+1)
}

// now gives a QoS 0 message to its subscribers.
func (f *feed) now(m *message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fanOut(m, (*session).offerNow)
}

// fanOut gives a message to sessions. Called with mu held.
func (f *feed) fanOut(m *message, give func(*session, *message, packets.Subscription, string) bool) {
	subs := f.c.server.Topics.Subscribers(m.topic)
	for id, sub := range subs.Subscriptions {
		if s := f.c.session(id); s != nil {
			give(s, m, sub, "")
		}
	}
	for share, members := range subs.Shared {
		f.share(share, members, m, give)
	}
}

// share gives a message to one of the connected members of a shared
// subscription, each in its turn (4.8.2).
func (f *feed) share(share string, members map[string]packets.Subscription, m *message, give func(*session, *message, packets.Subscription, string) bool) {
	ids := make([]string, 0, len(members))
	for id := range members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	last := f.turns[share]
	for i := range ids {
		turn := (last + 1 + i) % len(ids)
		if s := f.c.session(ids[turn]); s != nil && give(s, m, members[ids[turn]], share) {
			if len(f.turns) > maxSessions {
				clear(f.turns) // of groups that are gone, most likely
			}
			f.turns[share] = turn
			return
		}
	}
	f.c.metrics.dropped.Inc()
}

// again gives shared messages, which a member has not acknowledged and now is
// away, to another.
func (f *feed) again(shared []queued) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range shared {
		members := f.c.server.Topics.Subscribers(q.m.topic).Shared[q.share]
		if len(members) > 0 {
			f.share(q.share, members, q.m, (*session).offerNow)
		}
	}
}

// messageOf is the message that a record is to MQTT: one that a device
// published, or that a publication makes of it. What devices published is
// never published twice, though its topic be one of a publication.
func (c *Connector) messageOf(r *kgo.Record) (*message, *publication) {
	if m := fromRecord(r); m != nil {
		return m, nil
	}
	for i := range c.publications {
		if p := &c.publications[i]; p.Topic == r.Topic {
			m, err := p.message(r)
			if err != nil {
				c.refuse("", strings.ToValidUTF8(string(r.Key), "?"), noTopic)
				continue
			}
			return m, p
		}
	}
	return nil, nil
}
