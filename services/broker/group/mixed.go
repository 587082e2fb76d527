package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// classicSide is what a member of a consumer group has that speaks the classic
// protocol. Its generation is its epoch; a rebalance is told it until it has
// joined again, and nobody leads: the coordinator assigns.
type classicSide struct {
	session   time.Duration
	protocols []Protocol
	due       *time.Timer // ends the membership if it neither joins nor asks for its assignment
}

// mixed finds the consumer group to which a classic member turns; nil when
// there is none with members.
func (m *Manager) mixed(id string) *consumerGroup {
	if c := m.consumers[id]; c != nil && len(c.members) > 0 && m.ready(id) == nil {
		return c
	}
	return nil
}

// release stops everything that waits for a member.
func (mem *consumerMember) release() {
	mem.expiry.stop()
	stop(mem.revocation)
	if mem.classic != nil {
		stop(mem.classic.due)
		mem.classic.due = nil
	}
}

// awaitClassic gives a classic member its rebalance timeout for its next step.
func (c *consumerGroup) awaitClassic(mem *consumerMember) {
	stop(mem.classic.due)
	mem.classic.due = c.m.after(min(max(mem.rebalance, minSession), maxSession), func() { c.fence(mem) })
}

// joinClassic is Join in a group that has members of the consumer protocol. It
// waits for nobody else.
func (c *consumerGroup) joinClassic(r *JoinRequest, ch chan JoinResult) error {
	if r.ProtocolType != consumerType || len(r.Protocols) == 0 || len(r.Protocols) > maxProtocols || !c.supports(r) {
		return kerr.InconsistentGroupProtocol
	}
	sub, err := readSubscription(r.Protocols[0].Metadata)
	if err != nil {
		return err
	}
	if r.MemberID == "" && r.Instance == "" && r.NeedsID {
		r.MemberID = newMemberID(r.Client)
		return kerr.MemberIDRequired
	}
	hadOthers := !c.allClassic()
	mem, known, err := c.classicMember(r)
	if err != nil {
		return err
	}
	changed, err := c.updateClassic(mem, r, sub)
	if err != nil {
		if !known { // nobody has heard of it
			c.drop(mem)
			c.gone = c.gone[:len(c.gone)-1]
		}
		return err
	}
	if hadOthers && c.downgrade() { // it has taken the place of the last other
		g := c.m.groups[c.id]
		g.members[mem.id].join = ch
		g.joined(g.members[mem.id], r, "")
		return nil
	}
	if c.topicsChanged() || changed || !known {
		c.epoch++
		c.head = true
	}
	if c.epoch > c.targetEpoch {
		c.retarget()
	}
	c.reconcile(mem, c.owned(sub))
	mem.expiry.renew(mem.classic.session)
	c.awaitClassic(mem)
	res := JoinResult{MemberID: mem.id, Generation: mem.epoch, ProtocolType: consumerType, Protocol: mem.classic.protocols[0].Name}
	c.flush()
	c.m.settled(c.record, func(err error) {
		if err != nil {
			res = JoinResult{Err: err, MemberID: res.MemberID, Generation: -1}
		}
		ch <- res
	})
	return nil
}

// supports reports whether a member shares a protocol with the other classic
// ones: they would need it if the group became classic.
func (c *consumerGroup) supports(r *JoinRequest) bool {
	return slices.ContainsFunc(r.Protocols, func(p Protocol) bool {
		for _, mem := range c.members {
			if mem.classic != nil && mem.id != r.MemberID && (r.Instance == "" || mem.instance != r.Instance) && !mem.classic.knows(p.Name) {
				return false
			}
		}
		return true
	})
}

func (s *classicSide) knows(name string) bool {
	return slices.ContainsFunc(s.protocols, func(p Protocol) bool { return p.Name == name })
}

// classicMember finds or makes the member that a request is about; known says
// that it was there, if only in a former life.
func (c *consumerGroup) classicMember(r *JoinRequest) (mem *consumerMember, known bool, err error) {
	if r.Instance != "" {
		holder, taken := c.static[r.Instance]
		switch {
		case taken && r.MemberID == "":
			return c.comeBack(c.members[holder], newMemberID(r.Client)), true, nil
		case taken && holder != r.MemberID:
			return nil, false, kerr.FencedInstanceID
		case !taken && r.MemberID != "":
			return nil, false, kerr.UnknownMemberID
		}
	}
	if mem = c.members[r.MemberID]; mem != nil {
		return mem, true, nil
	}
	if len(c.members) >= maxMembers {
		return nil, false, kerr.GroupMaxSizeReached
	}
	if r.MemberID == "" {
		r.MemberID = newMemberID(r.Client)
	}
	mem = &consumerMember{id: r.MemberID, instance: r.Instance, order: c.order}
	c.add(mem)
	return mem, false, nil
}

// updateClassic takes over what a member says about itself, and reports
// whether that changes who should get what.
func (c *consumerGroup) updateClassic(mem *consumerMember, r *JoinRequest, sub subscription) (changed bool, err error) {
	next := *mem
	next.topics, next.regex, next.assignor, next.rack = sub.topics(), "", "", deref(sub.Rack)
	next.client, next.host, next.rebalance = r.Client, r.Host, r.Rebalance
	next.classic = &classicSide{session: r.Session, protocols: r.Protocols}
	if err := c.room(next.weight() - mem.size); err != nil {
		return false, err
	}
	changed = next.regex != mem.regex || next.assignor != mem.assignor || !slices.Equal(next.topics, mem.topics)
	if mem.classic != nil {
		stop(mem.classic.due)
	}
	*mem = next
	c.touch(mem)
	c.charge(mem)
	c.dropRegexes()
	return changed, nil
}

// owned is what a member that joins says that it still has.
func (c *consumerGroup) owned(sub subscription) []meta.GroupPartition {
	view, out := c.m.view(), []meta.GroupPartition{}
	for _, o := range sub.OwnedPartitions {
		if t, ok := view.byName[o.Topic]; ok {
			out = append(out, meta.GroupPartition{Topic: t.id, Partitions: o.Partitions})
		}
	}
	return out
}

// current finds a classic member by what it says it is, and notes that it lives.
func (c *consumerGroup) current(r Member) (*consumerMember, error) {
	if r.Instance != "" {
		switch holder, known := c.static[r.Instance]; {
		case !known:
			return nil, kerr.UnknownMemberID
		case holder != r.ID:
			return nil, kerr.FencedInstanceID
		}
	}
	mem := c.members[r.ID]
	switch {
	case mem == nil || mem.classic == nil:
		return nil, kerr.UnknownMemberID
	case r.Generation != mem.epoch:
		return nil, kerr.IllegalGeneration
	}
	mem.expiry.renew(mem.classic.session)
	return mem, nil
}

// heartbeatClassic tells a classic member to join again when the group has
// moved on, when it must give something up, and when what it waits for is free.
func (c *consumerGroup) heartbeatClassic(r Member) error {
	mem, err := c.current(r)
	if err != nil {
		return err
	}
	if mem.epoch == c.epoch && len(mem.revoking) == 0 && !(mem.waits && c.free(mem)) {
		return nil
	}
	if mem.classic.due == nil {
		c.awaitClassic(mem)
	}
	return kerr.RebalanceInProgress
}

// free reports whether nobody else holds anything of a member's target.
func (c *consumerGroup) free(mem *consumerMember) bool {
	for at := range mem.target {
		if holder, held := c.holder[at]; held && holder != mem.id {
			return false
		}
	}
	return true
}

// syncClassic tells a classic member what it has. One that has something to
// give up learns that from it.
func (c *consumerGroup) syncClassic(r SyncRequest, ch chan SyncResult) error {
	mem, err := c.current(r.Member)
	switch {
	case err != nil:
		return err
	case r.ProtocolType != "" && r.ProtocolType != consumerType, r.Protocol != "" && !mem.classic.knows(r.Protocol):
		return kerr.InconsistentGroupProtocol
	case mem.epoch != c.epoch && len(mem.revoking) == 0:
		if mem.classic.due == nil {
			c.awaitClassic(mem)
		}
		return kerr.RebalanceInProgress
	}
	stop(mem.classic.due)
	mem.classic.due = nil
	res := SyncResult{ProtocolType: consumerType, Protocol: mem.classic.protocols[0].Name, Assignment: c.assignment(mem)}
	c.m.settled(c.record, func(err error) {
		if err != nil {
			res = SyncResult{Err: err}
		}
		ch <- res
	})
	return nil
}

// classicKept and restoreClassic keep the classic side of a member on disk.
func (mem *consumerMember) classicKept(k *meta.GroupMember) {
	k.SessionMs = mem.classic.session.Milliseconds()
	for _, p := range mem.classic.protocols {
		k.Protocols = append(k.Protocols, meta.GroupProtocol(p))
	}
}

func restoreClassic(k meta.GroupMember) *classicSide {
	if len(k.Protocols) == 0 {
		return nil
	}
	s := &classicSide{session: max(time.Duration(k.SessionMs)*time.Millisecond, minSession)}
	for _, p := range k.Protocols {
		s.protocols = append(s.protocols, Protocol(p))
	}
	return s
}

// heldSince is what a member has or is giving up.
func (mem *consumerMember) heldSince() slots {
	held := maps.Clone(mem.assigned)
	maps.Copy(held, mem.revoking)
	return held
}
