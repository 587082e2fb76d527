package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// record is what of a group is on its way to the disk. A group that changes
// its type keeps its record, so that changes stay in order.
type record struct {
	kept    bool          // the disk knows of the group, or is about to
	next    *meta.Group   // changes that wait to be written, merged
	waiting []func(error) // called, locked, when next is durable or has failed
	writing bool
}

// save writes a change. Changes of one group are written in order, one at a
// time; those that come meanwhile go together. done, if not nil, is called
// with the manager locked when the change is durable, or failed: then it is
// kept, and written with the next one.
func (m *Manager) save(r *record, change meta.Group, done func(error)) {
	if r.next != nil {
		change = r.next.Then(change)
	}
	r.next, r.kept = &change, !change.Dropped
	if done != nil {
		r.waiting = append(r.waiting, done)
	}
	m.write(r)
}

// settled calls done when all of a group's changes are durable: at once if
// they are. What has failed before is tried again.
func (m *Manager) settled(r *record, done func(error)) {
	if r.next == nil && !r.writing {
		done(nil)
		return
	}
	r.waiting = append(r.waiting, done)
	m.write(r)
}

func (m *Manager) write(r *record) {
	if r.writing || m.closed {
		if m.closed {
			r.answer(kerr.CoordinatorNotAvailable)
		}
		return
	}
	r.writing = true
	m.wg.Go(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for err := error(nil); err == nil && (r.next != nil || len(r.waiting) > 0); {
			err = m.writeNext(r)
		}
		r.writing = false
	})
}

// writeNext writes what waits, with the manager unlocked meanwhile. Whoever
// waits without a change of its own waited for the one that was being written.
func (m *Manager) writeNext(r *record) (err error) {
	change, waiting := r.next, r.waiting
	r.next, r.waiting = nil, nil
	if change != nil {
		m.mu.Unlock()
		err = m.Meta.PutGroup(*change)
		m.mu.Lock()
	}
	if err != nil {
		m.Log.Error("write the state of a consumer group", "group", change.ID, "err", err)
		if r.next != nil {
			*change = change.Then(*r.next)
		}
		r.next = change
	}
	for _, done := range waiting {
		done(err)
	}
	if err != nil {
		r.answer(err)
	}
	return err
}

func (r *record) answer(err error) {
	waiting := r.waiting
	r.waiting = nil
	for _, done := range waiting {
		done(err)
	}
}

// restore takes the groups up where the last run left them.
func (m *Manager) restore() {
	for _, kept := range m.Meta.GroupStates() {
		if kept.Type == Consumer {
			m.restoreConsumers(kept)
			continue
		}
		g := m.newGroup(kept.ID)
		g.kept = true
		g.generation, g.protocolType = kept.Epoch, kept.ProtocolType
		g.protocol, g.leader = kept.Protocol, kept.Leader
		for _, k := range kept.Members {
			g.restoreMember(k)
		}
		if len(g.members) > 0 {
			g.state = Stable
		}
		m.groups[g.id] = g
	}
}

func (g *group) restoreMember(k meta.GroupMember) {
	mem := &member{
		id: k.ID, instance: k.Instance, client: k.Client, host: k.Host,
		session: max(time.Duration(k.SessionMs)*time.Millisecond, minSession), rebalance: time.Duration(k.RebalanceMs) * time.Millisecond,
		assignment: k.Assignment, synced: true,
	}
	for _, p := range k.Protocols {
		mem.protocols = append(mem.protocols, Protocol(p))
	}
	g.add(mem)
	g.charge(mem, memberSize(&JoinRequest{
		MemberID: mem.id, Instance: mem.instance, Client: mem.client, Host: mem.host, Protocols: mem.protocols,
	}, mem.assignment))
}

// change is the group as it is now, with what its members are assigned.
func (g *group) change(assignments map[string][]byte) meta.Group {
	c := meta.Group{
		ID: g.id, Type: Classic, Epoch: g.generation,
		ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader, Fresh: true,
	}
	for i, id := range g.order {
		mem := g.members[id]
		k := meta.GroupMember{
			ID: id, Order: int64(i), Instance: mem.instance, Client: mem.client, Host: mem.host,
			SessionMs: mem.session.Milliseconds(), RebalanceMs: mem.rebalance.Milliseconds(), Assignment: assignments[id],
		}
		for _, p := range mem.protocols {
			k.Protocols = append(k.Protocols, meta.GroupProtocol(p))
		}
		c.Members = append(c.Members, k)
	}
	return c
}
