package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/unpack"
)

// reader makes a client that reads what is committed, from the start where
// nothing else is said. Who reads with it asks poll.
func (c *Connector) reader(opts ...kgo.Opt) (*kgo.Client, error) {
	return c.open(append([]kgo.Opt{
		kgo.WithDecompressor(c.batches.Reader()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(maxFetch), kgo.FetchMaxPartitionBytes(maxFetch), kgo.MaxConcurrentFetches(1),
	}, opts...)...)
}

// unreadable is a batch that is too large to be unpacked: offsets from up to next.
type unreadable struct {
	part
	from, next int64
}

// poll returns what came. It goes on behind batches that are too large to be
// unpacked, which are over: they come after all records. err is any other error.
func poll(ctx context.Context, cl *kgo.Client) (fetched kgo.Fetches, over []unreadable, err error) {
	fetched = cl.PollFetches(ctx)
	fetched.EachError(func(topic string, partition int32, e error) {
		if large := unpack.PassOver(cl, e); large != nil {
			over = append(over, unreadable{part{topic, partition}, large.Offset, large.NextOffset})
		} else if !errors.Is(e, unpack.ErrNoRoom) && err == nil {
			err = fmt.Errorf("read %s, partition %d: %w", topic, partition, e)
		}
	})
	return fetched, over, err
}

// passedOver counts and tells what subscribers do not get: those who listen, or
// one that follows.
func (c *Connector) passedOver(u unreadable) {
	c.metrics.dropped.Add(float64(u.next - u.from))
	c.log.Warn("a batch is too large to be read, its messages are not brought to subscribers",
		"topic", u.topic, "partition", u.n, "offset", u.from, "records", u.next-u.from)
}

// passOver has a session go on behind a batch, and reports whether it does: it does
// not when d is its connection no more, which has set it back to what is not
// acknowledged. What an earlier version has sent of the batch will not be sent again.
func (s *session) passOver(d *connection, u unreadable) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != d || s.out.next[u.part] >= u.next {
		return false
	}
	s.out.next[u.part] = u.next
	for _, g := range s.out.sent {
		if g.at.part == u.part && g.at.offset >= u.from && g.at.offset < u.next && !g.released {
			s.out.drop(g)
		}
	}
	return true
}

// own parts a message from the record that it was made of, which would hold
// its whole batch in memory. Called before anybody else sees it.
func (m *message) own() {
	if m.borrowed {
		m.payload, m.props.CorrelationData, m.borrowed = bytes.Clone(m.payload), bytes.Clone(m.props.CorrelationData), false
	}
}
