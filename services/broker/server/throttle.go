package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/quota"
)

// waits are the requests that wait for something other than the broker's own
// work; their time is not charged to request_percentage.
var waits = map[int16]bool{
	kmsg.Fetch.Int16(): true, kmsg.JoinGroup.Int16(): true, kmsg.SyncGroup.Int16(): true,
	kmsg.SASLAuthenticate.Int16(): true, kmsg.ShareFetch.Int16(): true,
}

// throttle charges a request to the client's quotas. The answer says for how
// long the client should wait, and for that long nothing more is read from it
// (KIP-219). Without any quota this is one atomic load.
func (c *conn) throttle(r *request, took time.Duration) time.Duration {
	q := c.s.quotas
	if !q.Active() || !c.guard.open {
		return 0
	}
	user := auth.UserOf(c.guard.principal)
	var d time.Duration
	charge := func(name string, n float64) { d = max(d, q.Charge(name, user, r.client, n)) }
	switch {
	case r.key == kmsg.Produce.Int16():
		charge(quota.Produce, float64(r.size))
	case r.answer.fetch != nil:
		charge(quota.Consume, float64(r.answer.fetch.recordBytes()))
	}
	if !waits[r.key] {
		charge(quota.Request, 100*took.Seconds()) // a second of work is 100 % of one
	}
	if n := mutations(r.msg, r.answer.msg); n > 0 {
		charge(quota.Mutation, float64(n))
	}
	if d < time.Millisecond {
		return 0
	}
	r.answer.throttle(d)
	return d
}

// throttle puts the time into the answer.
func (a *answer) throttle(d time.Duration) {
	ms := int32(d.Milliseconds())
	if a.fetch != nil {
		a.fetch.setThrottle(ms)
	}
	if m, ok := a.msg.(kmsg.SetThrottleResponse); ok {
		m.SetThrottle(ms)
	}
}

// mute leaves a client alone. What it was answered is sent first.
func (c *conn) mute(ctx context.Context, d time.Duration) error {
	if err := c.flush(); err != nil {
		return err
	}
	pause(ctx, d)
	return nil
}

// mutations is how many partitions a request made, or topics it changed or
// deleted. What was refused costs nothing.
func mutations(msg kmsg.Request, answer kmsg.Response) (n int) {
	switch resp := answer.(type) {
	case *kmsg.CreateTopicsResponse:
		req := msg.(*kmsg.CreateTopicsRequest)
		for i := range resp.Topics {
			if resp.Topics[i].ErrorCode == 0 && i < len(req.Topics) && !req.ValidateOnly {
				n += max(int(req.Topics[i].NumPartitions), len(req.Topics[i].ReplicaAssignment), 1)
			}
		}
	case *kmsg.CreatePartitionsResponse:
		for i := range resp.Topics {
			if resp.Topics[i].ErrorCode == 0 && !msg.(*kmsg.CreatePartitionsRequest).ValidateOnly {
				n++
			}
		}
	case *kmsg.DeleteTopicsResponse:
		for i := range resp.Topics {
			if resp.Topics[i].ErrorCode == 0 {
				n++
			}
		}
	}
	return n
}

// fetchLimit bounds one fetch answer by what the client may have in a second,
// so that it is never left alone for long.
func (s *Server) fetchLimit(r *request, n int64) int64 {
	if !s.quotas.Active() {
		return n
	}
	rate, ok := s.quotas.Limit(quota.Consume, auth.UserOf(r.principal()), r.client)
	if !ok {
		return n
	}
	return min(n, max(int64(rate), 1))
}
