package group

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// HeartbeatRequest is what a member of the consumer protocol says. What is
// nil, empty or below 0 is as it was before.
type HeartbeatRequest struct {
	Group, MemberID string
	Epoch           int32 // 0 joins, -1 leaves, -2 leaves for now (static members)
	Instance, Rack  *string
	Rebalance       time.Duration
	Topics          []string
	Regex           *string
	Assignor        *string
	Owned           []meta.GroupPartition
	Client, Host    string
	// OldIDs says that the coordinator gives a new member its id (version 0).
	OldIDs bool
	// May says which topics a regular expression may stand for.
	May func(topic string) bool
}

// HeartbeatResult is what a member is to do.
type HeartbeatResult struct {
	Err      error
	Text     string // about the error
	MemberID string
	Epoch    int32
	Interval time.Duration
	// Assigned are all partitions that the member may have; nil: as before.
	Assigned []meta.GroupPartition
}

// ConsumerHeartbeat is all that members of the consumer protocol send: they
// join, live, tell what they have given up, learn what they are assigned, and
// leave. It returns when what it tells is on disk.
func (m *Manager) ConsumerHeartbeat(ctx context.Context, r HeartbeatRequest) HeartbeatResult {
	ch := make(chan HeartbeatResult, 1)
	m.mu.Lock()
	if res := m.beat(&r, ch); res.Err != nil {
		ch <- res
	}
	m.mu.Unlock()
	select {
	case res := <-ch:
		return res
	case <-ctx.Done():
		return HeartbeatResult{Err: kerr.CoordinatorNotAvailable}
	}
}

func refused(err error, text string) HeartbeatResult { return HeartbeatResult{Err: err, Text: text} }

func (m *Manager) beat(r *HeartbeatRequest, ch chan HeartbeatResult) HeartbeatResult {
	if text := r.wrong(); text != "" {
		return refused(kerr.InvalidRequest, text)
	}
	r.Client = strings.ToValidUTF8(r.Client, "\uFFFD") // who asks is served, whatever it calls itself
	if r.Assignor != nil && assignors[*r.Assignor] == nil {
		return refused(kerr.UnsupportedAssignor, "the assignors are range and uniform")
	}
	c, err := m.consumer(r.Group, r.Epoch == 0)
	if err != nil {
		return refused(err, "group "+r.Group+" is not one of the consumer protocol, or has no such member")
	}
	var res HeartbeatResult
	if r.Epoch < 0 {
		res = c.leaving(r)
	} else {
		res = c.beat(r)
	}
	if res.Err != nil {
		c.forget() // when it was made for somebody who is refused
		c.downgrade()
		c.flush()
		return res
	}
	c.flush()
	m.settled(c.record, func(err error) {
		if err != nil {
			res = refused(err, "the group's state could not be written")
		}
		ch <- res
	})
	return HeartbeatResult{}
}

// wrong says what is wrong with a request by itself.
func (r *HeartbeatRequest) wrong() string {
	empty := func(s *string) bool { return s != nil && *s == "" }
	switch {
	case r.Group == "":
		return "the group id is empty"
	case empty(r.Instance) || empty(r.Rack):
		return "the instance id or the rack is empty"
	case r.MemberID == "" && !(r.OldIDs && r.Epoch == 0):
		return "the member id is empty"
	case !r.text():
		return "a name is not UTF-8"
	case len(r.MemberID) > maxID || r.Instance != nil && len(*r.Instance) > maxID:
		return "an id is too long"
	case r.Epoch < leftForNow:
		return "the member epoch is below -2"
	case r.Epoch == leftForNow && r.Instance == nil:
		return "only a member with an instance id can leave for now"
	case r.Epoch != 0:
		return ""
	case r.Rebalance < 0:
		return "a member that joins must say its rebalance timeout"
	case r.Owned == nil || len(r.Owned) > 0:
		return "a member that joins has no partitions, and must say so"
	case r.Topics == nil && r.Regex == nil:
		return "a member that joins must say what it subscribes to"
	}
	return ""
}

// text reports whether all names are UTF-8: the journal keeps text.
func (r *HeartbeatRequest) text() bool {
	for _, s := range append([]string{r.MemberID, deref(r.Instance), deref(r.Rack), deref(r.Regex)}, r.Topics...) {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// full reports whether a request repeats all that is known of the member: it
// has missed an answer, and is told its assignment again.
func (r *HeartbeatRequest) full() bool {
	return r.Rebalance >= 0 && (r.Topics != nil || r.Regex != nil) && r.Owned != nil
}

func (c *consumerGroup) beat(r *HeartbeatRequest) HeartbeatResult {
	mem, err := c.member(r)
	if err != nil {
		return refused(err, "")
	}
	known := mem != nil
	if !known {
		if mem, err = c.join(r); err != nil {
			return refused(err, "")
		}
	}
	changed, err := c.update(mem, r)
	if err != nil {
		if !known { // nobody has heard of it
			c.drop(mem)
			c.gone = c.gone[:len(c.gone)-1]
		}
		return refused(err, "")
	}
	if !known {
		c.order++
		changed = true
	}
	if c.topicsChanged() || changed {
		c.epoch++
		c.head = true
	}
	if c.epoch > c.targetEpoch {
		c.retarget()
	}
	moved := c.reconcile(mem, r.Owned)
	mem.expiry.renew(c.session())
	res := HeartbeatResult{MemberID: mem.id, Epoch: mem.epoch, Interval: c.interval()}
	if r.Epoch == 0 || r.full() || moved {
		res.Assigned = mem.assigned.list(false)
		if res.Assigned == nil {
			res.Assigned = []meta.GroupPartition{}
		}
	}
	return res
}

// member finds who a request is from, and checks its epoch; nil when it is
// somebody new. A static member that was away comes back under a new id.
func (c *consumerGroup) member(r *HeartbeatRequest) (*consumerMember, error) {
	if r.Instance != nil {
		holder, known := c.static[*r.Instance]
		switch {
		case !known && r.Epoch == 0:
		case !known:
			return nil, kerr.UnknownMemberID
		case holder == r.MemberID:
		case r.Epoch != 0:
			return nil, kerr.FencedInstanceID
		case c.members[holder].epoch != leftForNow:
			return nil, kerr.UnreleasedInstanceID
		default:
			id := r.MemberID
			if id == "" {
				id = uuid.NewString()
			}
			return c.comeBack(c.members[holder], id), nil
		}
	}
	mem := c.members[r.MemberID]
	switch {
	case mem == nil && r.Epoch == 0:
		return nil, nil
	case mem == nil:
		return nil, kerr.UnknownMemberID
	case r.Instance != nil && mem.instance != *r.Instance:
		return nil, kerr.InvalidRequest
	case r.Epoch == 0 || r.Epoch == mem.epoch:
		return mem, nil
	case r.Epoch == mem.previous && r.Owned != nil && within(slotsOf(r.Owned), mem.assigned):
		return mem, nil // it has missed the answer with its new epoch
	}
	return nil, kerr.FencedMemberEpoch
}

func within(s, others slots) bool {
	for at := range s {
		if _, ok := others[at]; !ok {
			return false
		}
	}
	return true
}

// join makes a new member; it is not counted as a change yet.
func (c *consumerGroup) join(r *HeartbeatRequest) (*consumerMember, error) {
	if len(c.members) >= maxMembers {
		return nil, kerr.GroupMaxSizeReached
	}
	if r.MemberID == "" {
		r.MemberID = uuid.NewString()
	}
	mem := &consumerMember{id: r.MemberID, instance: deref(r.Instance), order: c.order}
	c.add(mem)
	return mem, nil
}

// comeBack gives a static member's place, with its partitions, to its next life.
func (c *consumerGroup) comeBack(old *consumerMember, id string) *consumerMember {
	mem := &consumerMember{
		id: id, instance: old.instance, order: old.order, topics: old.topics, regex: old.regex, assignor: old.assignor,
		waits: old.waits, assigned: old.assigned, target: old.target,
	}
	c.drop(old)
	c.add(mem)
	c.touch(mem)
	return mem
}

// update takes over what a member says about itself, and reports whether that
// changes who should get what.
func (c *consumerGroup) update(mem *consumerMember, r *HeartbeatRequest) (changed bool, err error) {
	next := *mem
	if r.Topics != nil {
		next.topics = slices.Compact(slices.Sorted(slices.Values(r.Topics)))
	}
	set(&next.regex, r.Regex)
	set(&next.assignor, r.Assignor)
	set(&next.rack, r.Rack)
	if r.Rebalance >= 0 {
		next.rebalance = r.Rebalance
	}
	next.client, next.host = r.Client, r.Host
	if mem.classic != nil { // it has moved over
		stop(mem.classic.due)
		next.classic = nil
		c.touch(mem)
	}
	if err := c.room(next.weight() - mem.size); err != nil {
		return false, err
	}
	refreshed, err := c.resolve(next.regex, r.May)
	if err != nil {
		return false, err
	}
	changed = refreshed || next.regex != mem.regex || next.assignor != mem.assignor || !slices.Equal(next.topics, mem.topics)
	if changed || next.client != mem.client || next.host != mem.host || next.rack != mem.rack || next.rebalance != mem.rebalance {
		c.touch(mem)
	}
	*mem = next
	c.charge(mem)
	c.dropRegexes()
	return changed, nil
}

func set(to *string, from *string) {
	if from != nil {
		*to = *from
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
