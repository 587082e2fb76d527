package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// reconcile brings a member a step nearer to its target, and reports whether
// what it may have has changed. A partition is given up by one before it is
// given to another: nothing is consumed by two at once. owned is what the
// member says that it has; nil when it does not say.
func (c *consumerGroup) reconcile(mem *consumerMember, owned []meta.GroupPartition) (moved bool) {
	gaveUp := func(s slots) bool { return owned != nil && !slotsOf(owned).overlaps(s) }
	switch {
	case len(mem.revoking) > 0:
		if !gaveUp(mem.revoking) {
			return false
		}
		c.release(mem, mem.revoking)
		mem.revoking = nil
	case !mem.waits && mem.epoch == c.targetEpoch:
		return false
	}
	defer c.watchRevocation(mem)
	before, waited, epoch := len(mem.assigned), mem.waits, mem.epoch
	keep, revoke := slots{}, slots{}
	for at, since := range mem.assigned {
		if _, ok := mem.target[at]; ok {
			keep[at] = since
		} else {
			revoke[at] = since
		}
	}
	if len(revoke) > 0 && !gaveUp(revoke) {
		mem.assigned, mem.revoking, mem.waits = keep, revoke, false
		c.touch(mem)
		return true
	}
	c.release(mem, revoke)
	mem.waits = c.take(mem, keep)
	mem.assigned = keep
	if mem.epoch != c.targetEpoch {
		mem.previous, mem.epoch = mem.epoch, c.targetEpoch
	}
	moved = len(revoke) > 0 || len(keep) != before
	if moved || mem.waits != waited || mem.epoch != epoch {
		c.touch(mem)
	}
	return moved
}

// take adds to keep what of a member's target is free, and reports whether
// anything is not.
func (c *consumerGroup) take(mem *consumerMember, keep slots) (waits bool) {
	for at := range mem.target {
		switch holder, held := c.holder[at]; {
		case held && holder == mem.id:
		case held:
			waits = true
		default:
			keep[at] = c.targetEpoch
			c.holder[at] = mem.id
		}
	}
	return waits
}

// watchRevocation gives a member its rebalance timeout to give up what it
// must; others wait for it.
func (c *consumerGroup) watchRevocation(mem *consumerMember) {
	stop(mem.revocation)
	mem.revocation = nil
	if len(mem.revoking) == 0 {
		return
	}
	mem.revocation = c.m.after(max(mem.rebalance, minSession), func() { c.fence(mem) })
}

// retarget computes who should have what, for the present epoch.
func (c *consumerGroup) retarget() {
	view := c.m.view()
	c.assignor = c.choose()
	in := make([]subscriber, 0, len(c.members))
	for _, mem := range c.sorted() {
		s := subscriber{id: mem.id, instance: mem.instance, had: mem.target}
		for _, name := range c.subscription(mem) {
			if t, ok := view.byName[name]; ok {
				s.topics = append(s.topics, t)
			}
		}
		in = append(in, s)
	}
	for id, target := range assignors[c.assignor](in) {
		mem := c.members[id]
		if len(target) != len(mem.target) || !within(target, mem.target) {
			mem.target = target
			c.touch(mem)
			c.charge(mem)
		}
	}
	c.targetEpoch, c.hash, c.seen = c.epoch, c.topicsHash(), view.version
	c.head = true
}

// choose is the assignor that most members ask for.
func (c *consumerGroup) choose() string {
	votes := map[string]int{}
	best := uniformName
	for _, mem := range c.sorted() {
		if mem.assignor != "" {
			if votes[mem.assignor]++; votes[mem.assignor] > votes[best] {
				best = mem.assignor
			}
		}
	}
	return best
}

// slotBytes is what one assigned partition takes in all tables, roughly.
const slotBytes = 100

func (mem *consumerMember) weight() int {
	n := 500 + len(mem.id) + len(mem.instance) + len(mem.client) + len(mem.host) + len(mem.rack) + len(mem.regex) + slotBytes*len(mem.target)
	for _, t := range mem.topics {
		n += 16 + len(t)
	}
	if mem.classic != nil {
		for _, p := range mem.classic.protocols {
			n += 100 + len(p.Name) + len(p.Metadata)
		}
	}
	return n
}

func (c *consumerGroup) charge(mem *consumerMember) {
	w := mem.weight()
	c.charges(w - mem.size)
	mem.size = w
}

func (c *consumerGroup) charges(n int) {
	c.size += n
	c.m.bytes += int64(n)
}

// room says whether n bytes more can be held. Targets are counted and may go
// beyond: they are bounded by the number of partitions.
func (c *consumerGroup) room(n int) error {
	switch {
	case n <= 0:
		return nil
	case c.size-slotBytes*len(c.holder)+n > maxGroupBytes:
		return kerr.GroupMaxSizeReached
	case c.m.bytes+int64(n) > maxBytes:
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

// session is how long a member may be silent, and interval how often it is
// asked to speak; a group's own configuration comes first.
func (c *consumerGroup) session() time.Duration {
	return min(max(c.setting("session.timeout.ms", c.m.Session), minSession), maxSession)
}

func (c *consumerGroup) sessionOf(mem *consumerMember) time.Duration {
	if mem.classic != nil {
		return mem.classic.session
	}
	return c.session()
}

func (c *consumerGroup) interval() time.Duration {
	return min(max(c.setting("heartbeat.interval.ms", c.m.Interval), 10*time.Millisecond), c.session())
}

// groupResource is Kafka's number of the type of resource that a group is.
const groupResource = 32

func (c *consumerGroup) setting(name string, def time.Duration) time.Duration {
	own := c.m.Meta.ConfigOf(meta.Resource{Type: groupResource, Name: c.id})["consumer."+name]
	return milliseconds(own, milliseconds(c.m.setting("group.consumer."+name), def))
}
