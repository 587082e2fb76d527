package group

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// JoinRequest asks to be in a group's next generation.
type JoinRequest struct {
	Group, MemberID, Instance string
	Client, Host              string
	Session, Rebalance        time.Duration
	ProtocolType              string
	Protocols                 []Protocol // in the member's order of preference; kept
	// NeedsID says that a new member must come back with the id it is given
	// (JoinGroup version 4 and later, KIP-394).
	NeedsID bool
}

// JoinResult is the generation that a member has joined.
type JoinResult struct {
	Err          error
	MemberID     string
	Generation   int32
	ProtocolType string
	Protocol     string
	Leader       string
	Members      []MemberInfo // for the leader only: who to assign to
}

// Join waits until the rebalance that it begins or takes part in is complete.
func (m *Manager) Join(ctx context.Context, r JoinRequest) JoinResult {
	ch, err := m.join(r)
	if err != nil {
		return JoinResult{Err: err.err, MemberID: err.member, Generation: -1}
	}
	select {
	case res := <-ch:
		return res
	case <-ctx.Done():
		return JoinResult{Err: kerr.CoordinatorNotAvailable, MemberID: r.MemberID, Generation: -1}
	}
}

// refusal carries the member id that goes with an error.
type refusal struct {
	err    error
	member string
}

func (m *Manager) join(r JoinRequest) (chan JoinResult, *refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	refuse := func(err error, member string) (chan JoinResult, *refusal) { return nil, &refusal{err, member} }
	if r.Session < minSession || r.Session > maxSession {
		return refuse(kerr.InvalidSessionTimeout, r.MemberID)
	}
	g, err := m.get(r.Group, r.MemberID == "")
	if err != nil {
		return refuse(err, r.MemberID)
	}
	defer g.forget() // when it was made for somebody who is refused
	if err := g.fits(r); err != nil {
		return refuse(err, r.MemberID)
	}
	mem, err := g.joining(r)
	if err != nil {
		id := r.MemberID
		if err == kerr.MemberIDRequired {
			id = g.handOut(r)
		}
		return refuse(err, id)
	}
	if mem.join != nil {
		mem.answer(kerr.RebalanceInProgress) // an earlier connection of the same member
	}
	ch := make(chan JoinResult, 1)
	mem.join = ch
	g.joined(mem, r)
	return ch, nil
}

// fits checks that a member shares a protocol with all others.
func (g *group) fits(r JoinRequest) error {
	if r.ProtocolType == "" || len(r.Protocols) == 0 {
		return kerr.InconsistentGroupProtocol
	}
	if len(g.members) == 0 {
		return nil
	}
	if r.ProtocolType != g.protocolType {
		return kerr.InconsistentGroupProtocol
	}
	for _, p := range r.Protocols {
		if g.allKnow(p.Name, r.MemberID) {
			return nil
		}
	}
	return kerr.InconsistentGroupProtocol
}

// allKnow reports whether every member but one knows a protocol.
func (g *group) allKnow(name, but string) bool {
	for _, mem := range g.members {
		if mem.id != but && !mem.knows(name) {
			return false
		}
	}
	return true
}

func (mem *member) knows(name string) bool {
	return slices.ContainsFunc(mem.protocols, func(p Protocol) bool { return p.Name == name })
}

func (mem *member) metadata(protocol string) []byte {
	for _, p := range mem.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// joining finds or makes the member that a request is about.
func (g *group) joining(r JoinRequest) (*member, error) {
	if r.MemberID != "" {
		if t := g.pending[r.MemberID]; t != nil {
			t.Stop()
			delete(g.pending, r.MemberID)
			return g.admit(r, r.MemberID), nil
		}
		return g.find(r.MemberID, r.Instance)
	}
	if old, ok := g.static[r.Instance]; ok && r.Instance != "" {
		return g.replace(g.members[old], r), nil
	}
	if len(g.members)+len(g.pending) >= maxMembers {
		return nil, kerr.GroupMaxSizeReached
	}
	if r.NeedsID && r.Instance == "" {
		return nil, kerr.MemberIDRequired
	}
	return g.admit(r, newMemberID(r.Client)), nil
}

func (g *group) admit(r JoinRequest, id string) *member {
	mem := &member{id: id, instance: r.Instance, client: r.Client, host: r.Host, session: r.Session}
	g.add(mem)
	return mem
}

// replace gives a static member (KIP-345) that came back a new id; whoever
// still uses the old one is fenced. Its assignment stays its own, unless the
// leader is about to assign to the old id: then all must join again.
func (g *group) replace(old *member, r JoinRequest) *member {
	old.expiry.Stop()
	old.answer(kerr.FencedInstanceID)
	mem := &member{
		id: newMemberID(r.Client), instance: r.Instance, client: r.Client, host: r.Host, session: r.Session,
		protocols: old.protocols, assignment: old.assignment, rebalance: old.rebalance,
	}
	delete(g.members, old.id)
	g.members[mem.id] = mem
	g.order[slices.Index(g.order, old.id)] = mem.id
	g.static[mem.instance] = mem.id
	if g.leader == old.id {
		g.leader = mem.id
	}
	mem.expiry = g.m.after(mem.session, func() { g.expire(mem) })
	if g.state == Completing {
		g.prepare()
	}
	return mem
}

// handOut makes a member id that must be used within the session timeout.
func (g *group) handOut(r JoinRequest) string {
	id := newMemberID(r.Client)
	g.pending[id] = g.m.after(r.Session, func() {
		delete(g.pending, id)
		g.changedPending()
	})
	return id
}

func (g *group) changedPending() {
	if g.state == Preparing {
		g.tryComplete()
		return
	}
	g.forget()
}

// joined puts a member's wishes in and decides whether they need a rebalance.
func (g *group) joined(mem *member, r JoinRequest) {
	same := slices.EqualFunc(mem.protocols, r.Protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
	mem.protocols, mem.client, mem.host = r.Protocols, r.Client, r.Host
	mem.session, mem.rebalance = r.Session, r.Rebalance
	mem.expiry.Reset(mem.session)
	g.protocolType = r.ProtocolType
	switch {
	case g.state == Preparing:
		g.tryComplete()
	case g.state == Completing && same,
		g.state == Stable && same && mem.id != g.leader:
		// It has lost our answer, or asks again: nothing changes.
		mem.join <- g.result(mem)
		mem.join = nil
	default:
		g.prepare()
	}
}
