package share

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// HeartbeatRequest is what a member of a share group says.
type HeartbeatRequest struct {
	Group, MemberID string
	Epoch           int32 // 0 joins, -1 leaves
	Rack            *string
	Topics          []string // nil: as before
	Client, Host    string
}

// HeartbeatResult is what a member is to do.
type HeartbeatResult struct {
	Err      error
	Text     string // about the error
	Epoch    int32
	Interval time.Duration
	// Assigned are the partitions that the member shares; nil: as before.
	Assigned []meta.GroupPartition
}

type member struct {
	id, client, host, rack string
	order                  int64
	epoch, previous        int32
	topics                 []string // sorted
	assigned               []meta.GroupPartition
	expiry                 *time.Timer
	until                  time.Time // monotonic
}

// Heartbeat is all that members of share groups send but for fetches: they
// join, live, learn what they are assigned, and leave.
func (m *Manager) Heartbeat(r HeartbeatRequest) HeartbeatResult {
	if text := r.wrong(); text != "" {
		return HeartbeatResult{Err: kerr.InvalidRequest, Text: text}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g, mem, err := m.member(&r)
	if err != nil {
		return HeartbeatResult{Err: err, Text: "group " + r.Group + " is not a share group, or has no such member"}
	}
	res := HeartbeatResult{Epoch: -1, Interval: m.duration(g.id, "heartbeat.interval.ms", 5*time.Second)}
	if r.Epoch < 0 {
		m.leave(g, mem)
		return res
	}
	if err := m.update(g, mem, &r); err != nil {
		if mem.epoch == 0 { // nobody has heard of it
			m.leave(g, mem)
		}
		return HeartbeatResult{Err: err, Text: "the members of share groups say too much"}
	}
	if mem.epoch != g.epoch || r.Topics != nil || r.Epoch == 0 {
		res.Assigned = append([]meta.GroupPartition{}, mem.assigned...)
	}
	if mem.epoch != g.epoch {
		mem.previous, mem.epoch = mem.epoch, g.epoch
	}
	m.renew(g, mem)
	res.Epoch = mem.epoch
	return res
}

// wrong says what is wrong with a request by itself.
func (r *HeartbeatRequest) wrong() string {
	switch {
	case r.Group == "":
		return "the group id is empty"
	case !ValidMember(r.MemberID):
		return "the member id is empty or too long"
	case r.Rack != nil && (*r.Rack == "" || len(*r.Rack) > maxID):
		return "the rack is empty or too long"
	case r.Epoch < -1:
		return "the member epoch is below -1"
	case r.Epoch == 0 && len(r.Topics) == 0:
		return "a member that joins must say what it subscribes to"
	case len(r.Topics) > maxTopics:
		return "a member subscribes to too many topics"
	}
	return ""
}

// ValidMember reports whether a member may have such an id.
func ValidMember(id string) bool { return id != "" && len(id) <= maxMemberID }

// member finds who a request is from, or takes it in.
func (m *Manager) member(r *HeartbeatRequest) (*group, *member, error) {
	g := m.groups[r.Group]
	switch {
	case g == nil && m.Taken != nil && m.Taken(r.Group):
		return nil, nil, kerr.GroupIDNotFound
	case g == nil && r.Epoch != 0:
		return nil, nil, kerr.UnknownMemberID // the broker has started anew: it joins again
	case g == nil:
		var err error
		if g, err = m.group(r.Group); err != nil {
			return nil, nil, err
		}
	}
	mem := g.members[r.MemberID]
	switch {
	case mem == nil && r.Epoch != 0:
		return nil, nil, kerr.UnknownMemberID
	case mem != nil && r.Epoch > 0 && r.Epoch != mem.epoch && r.Epoch != mem.previous:
		return nil, nil, kerr.FencedMemberEpoch
	case mem != nil:
		return g, mem, nil
	case int64(len(g.members)) >= min(m.number(g.id, "max.size", 200), maxMembers):
		return nil, nil, kerr.GroupMaxSizeReached
	}
	mem = &member{id: r.MemberID, order: g.order}
	g.order++
	g.members[mem.id] = mem
	mem.expiry = time.AfterFunc(m.session(g), func() { m.expire(g, mem) })
	return g, mem, nil
}

func (m *Manager) session(g *group) time.Duration {
	return m.duration(g.id, "session.timeout.ms", 45*time.Second)
}

func (m *Manager) renew(g *group, mem *member) {
	d := m.session(g)
	mem.until = time.Now().Add(d)
	mem.expiry.Reset(d)
}

// expire takes out a member that was not heard of for its session.
func (m *Manager) expire(g *group, mem *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || g.members[mem.id] != mem || time.Until(mem.until) > 0 {
		return
	}
	m.Log.Info("a member is removed from its share group: not heard of", "group", g.id, "member", mem.id)
	m.leave(g, mem)
}

// leave ends a membership. What the member has acquired is given back when its
// session ends or its locks run out: what it has still to say of it may be on
// its way by another connection.
func (m *Manager) leave(g *group, mem *member) {
	mem.expiry.Stop()
	delete(g.members, mem.id)
	m.assign(g)
	m.tidy(g)
}

// update takes over what a member says about itself, and assigns anew when
// that, or the topics that there are, make a difference.
func (m *Manager) update(g *group, mem *member, r *HeartbeatRequest) error {
	had := 0
	if mem.epoch > 0 {
		had = mem.bytes()
	}
	if n := r.bytes(); n > had && m.bytes+n > maxBytes {
		return kerr.CoordinatorNotAvailable
	}
	mem.client, mem.host = r.Client, r.Host
	if r.Rack != nil {
		mem.rack = *r.Rack
	}
	changed := mem.epoch == 0
	if r.Topics != nil {
		topics := slices.Compact(slices.Sorted(slices.Values(r.Topics)))
		changed = changed || !slices.Equal(topics, mem.topics)
		mem.topics = topics
	}
	if version := m.view().version; g.seen != version {
		m.forget(g)
		g.seen, changed = version, changed || m.assignedOther(g)
	}
	if changed {
		m.assign(g)
	}
	return nil
}

// memberBytes is what a member takes besides its texts, roughly.
const memberBytes = 500

func textBytes(all []string) (n int) {
	for _, t := range all {
		n += 16 + len(t)
	}
	return n
}

// bytes is what a request may have a member hold, roughly.
func (r *HeartbeatRequest) bytes() int { return memberBytes + textBytes(r.Topics) }

// bytes is what a member takes, roughly.
func (mem *member) bytes() int {
	n := memberBytes + len(mem.client) + len(mem.host) + len(mem.rack) + textBytes(mem.topics)
	for _, p := range mem.assigned {
		n += 80 + 4*len(p.Partitions)
	}
	return n
}

// sorted are the members in the order in which they joined.
func (g *group) sorted() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return cmp.Compare(a.order, b.order) })
}
