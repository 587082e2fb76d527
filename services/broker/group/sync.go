package group

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Member names a member and the generation that it believes to be in.
type Member struct {
	Group, ID, Instance string
	Generation          int32
}

// SyncRequest asks for a member's assignment; the leader brings all of them.
type SyncRequest struct {
	Member
	ProtocolType, Protocol string            // "" before version 5
	Assignments            map[string][]byte // by member id; kept
}

// SyncResult is a member's assignment.
type SyncResult struct {
	Err                    error
	ProtocolType, Protocol string
	Assignment             []byte
}

// Sync waits until the leader has assigned.
func (m *Manager) Sync(ctx context.Context, r SyncRequest) SyncResult {
	select {
	case res := <-m.BeginSync(r):
		return res
	case <-ctx.Done():
		return SyncResult{Err: kerr.CoordinatorNotAvailable}
	}
}

// BeginSync is Sync without waiting: one result will come.
func (m *Manager) BeginSync(r SyncRequest) <-chan SyncResult {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan SyncResult, 1)
	if err := m.sync(r, ch); err != nil {
		ch <- SyncResult{Err: err}
	}
	return ch
}

func (m *Manager) sync(r SyncRequest, ch chan SyncResult) error {
	if c := m.mixed(r.Group); c != nil {
		return c.syncClassic(r, ch)
	}
	g, mem, err := m.current(r.Member)
	if err != nil {
		return err
	}
	if (r.ProtocolType != "" && r.ProtocolType != g.protocolType) || (r.Protocol != "" && r.Protocol != g.protocol) {
		return kerr.InconsistentGroupProtocol
	}
	if g.state == Preparing {
		return kerr.RebalanceInProgress
	}
	mem.synced = true
	if g.state == Stable {
		ch <- g.assigned(mem)
		return nil
	}
	if mem.sync != nil {
		mem.sync <- SyncResult{Err: kerr.RebalanceInProgress}
	}
	mem.sync = ch
	if mem.id == g.leader && !g.assigning {
		g.assign(r.Assignments)
	}
	return nil
}

// assign makes the group stable, once the assignments are on disk: whoever is
// told one will be known by it after a restart. Members that the leader left
// out get an empty one.
func (g *group) assign(to map[string][]byte) {
	size := 0
	for id := range g.members {
		size += len(to[id])
	}
	if g.room(size) != nil {
		g.answerSyncs(func(*member) SyncResult { return SyncResult{Err: kerr.UnknownServerError} })
		return
	}
	g.assigning = true
	round := g.round
	g.m.save(g.record, g.change(to), func(err error) {
		if g.round != round || g.state != Completing {
			return
		}
		g.assigning = false
		if err != nil {
			g.answerSyncs(func(*member) SyncResult { return SyncResult{Err: err} })
			return
		}
		g.state = Stable
		for id, mem := range g.members {
			g.charge(mem, mem.size+len(to[id])-len(mem.assignment))
			mem.assignment = to[id]
		}
		g.answerSyncs(g.assigned)
	})
}

func (g *group) answerSyncs(with func(*member) SyncResult) {
	for _, mem := range g.members {
		if mem.sync != nil {
			mem.sync <- with(mem)
			mem.sync = nil
			mem.expiry.renew(mem.session)
		}
	}
}

func (g *group) assigned(mem *member) SyncResult {
	return SyncResult{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: mem.assignment}
}

// current finds a member of the present generation, and notes that it lives.
func (m *Manager) current(r Member) (*group, *member, error) {
	g, err := m.get(r.Group, false)
	if err != nil {
		return nil, nil, err
	}
	mem, err := g.find(r.ID, r.Instance)
	if err != nil {
		return nil, nil, err
	}
	if r.Generation != g.generation {
		return nil, nil, kerr.IllegalGeneration
	}
	mem.expiry.renew(mem.session)
	return g, mem, nil
}

// Heartbeat says that a member lives; kerr.RebalanceInProgress tells it to
// join again.
func (m *Manager) Heartbeat(r Member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.mixed(r.Group); c != nil {
		return c.heartbeatClassic(r)
	}
	g, _, err := m.current(r)
	if err == nil && g.state == Preparing {
		return kerr.RebalanceInProgress
	}
	return err
}

// Leave takes a member out, by its id or, when that is empty, by its instance.
func (m *Manager) Leave(groupID, memberID, instance string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.consumers[groupID]; c != nil && m.ready(groupID) == nil {
		return c.leave(memberID, instance)
	}
	g, err := m.get(groupID, false)
	if err != nil {
		return err
	}
	if g.unpend(memberID) {
		g.changedPending()
		return nil
	}
	if memberID == "" && instance != "" {
		memberID = g.static[instance]
	}
	mem, err := g.find(memberID, instance)
	if err != nil {
		return err
	}
	g.remove(mem)
	g.changed()
	return nil
}
