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
	ch, err := m.sync(r)
	if err != nil {
		return SyncResult{Err: err}
	}
	select {
	case res := <-ch:
		return res
	case <-ctx.Done():
		return SyncResult{Err: kerr.CoordinatorNotAvailable}
	}
}

func (m *Manager) sync(r SyncRequest) (chan SyncResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, mem, err := m.current(r.Member)
	if err != nil {
		return nil, err
	}
	if (r.ProtocolType != "" && r.ProtocolType != g.protocolType) || (r.Protocol != "" && r.Protocol != g.protocol) {
		return nil, kerr.InconsistentGroupProtocol
	}
	if g.state == Preparing {
		return nil, kerr.RebalanceInProgress
	}
	ch := make(chan SyncResult, 1)
	if g.state == Stable {
		ch <- g.assigned(mem)
		return ch, nil
	}
	if mem.sync != nil {
		mem.sync <- SyncResult{Err: kerr.RebalanceInProgress}
	}
	mem.sync = ch
	if mem.id == g.leader {
		g.assign(r.Assignments)
	}
	return ch, nil
}

// assign makes the group stable. Members without an assignment get none.
func (g *group) assign(to map[string][]byte) {
	g.state = Stable
	for id, mem := range g.members {
		mem.assignment = to[id]
		if mem.sync != nil {
			mem.sync <- g.assigned(mem)
			mem.sync = nil
			mem.expiry.Reset(mem.session)
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
	mem.expiry.Reset(mem.session)
	return g, mem, nil
}

// Heartbeat says that a member lives; kerr.RebalanceInProgress tells it to
// join again.
func (m *Manager) Heartbeat(r Member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
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
	g, err := m.get(groupID, false)
	if err != nil {
		return err
	}
	if t := g.pending[memberID]; t != nil {
		t.Stop()
		delete(g.pending, memberID)
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

// MayCommit says whether offsets may be committed: by a member of the present
// generation, or, with generation -1 and no member, by anybody while the
// group has no members.
func (m *Manager) MayCommit(r Member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Group == "" && (r.Generation >= 0 || r.ID != "") {
		return kerr.InvalidGroupID
	}
	if g := m.groups[r.Group]; r.Generation < 0 && (g == nil || len(g.members) == 0) {
		return nil
	} else if g == nil {
		return kerr.IllegalGeneration
	}
	g, _, err := m.current(r)
	if err == nil && g.state == Completing {
		return kerr.RebalanceInProgress
	}
	return err
}
