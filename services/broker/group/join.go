package group

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
	// SkipsAssignment says that a leader understands JoinResult.SkipAssignment
	// (version 9 and later, KIP-814).
	SkipsAssignment bool
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
	// SkipAssignment tells a leader that came back that all have their
	// assignments already.
	SkipAssignment bool
}

// Join waits until the rebalance that it begins or takes part in is complete.
func (m *Manager) Join(ctx context.Context, r JoinRequest) JoinResult {
	select {
	case res := <-m.BeginJoin(r):
		return res
	case <-ctx.Done():
		return JoinResult{Err: kerr.CoordinatorNotAvailable, MemberID: r.MemberID, Generation: -1}
	}
}

// BeginJoin is Join without waiting: one result will come.
func (m *Manager) BeginJoin(r JoinRequest) <-chan JoinResult {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan JoinResult, 1)
	if err := m.join(&r, ch); err != nil {
		ch <- JoinResult{Err: err, MemberID: r.MemberID, Generation: -1}
	}
	return ch
}

// join sets r.MemberID to the id that goes with an error.
func (m *Manager) join(r *JoinRequest, ch chan JoinResult) error {
	switch { // in this order, as Kafka: clients are tested against it
	case r.Group == "":
		return kerr.InvalidGroupID
	case r.Session < minSession || r.Session > maxSession:
		return kerr.InvalidSessionTimeout
	}
	if len(r.MemberID) > maxID || len(r.Instance) > maxID || !r.text() {
		return kerr.InvalidRequest
	}
	r.Client = strings.ToValidUTF8(r.Client, "\uFFFD") // who asks is served, whatever it calls itself
	if c := m.mixed(r.Group); c != nil {
		return c.joinClassic(r, ch)
	}
	g, err := m.get(r.Group, r.MemberID == "")
	if err != nil {
		return err
	}
	defer g.forget() // when it was made for somebody who is refused
	if err := g.fits(r); err != nil {
		return err
	}
	back := ""
	if r.MemberID == "" && r.Instance != "" {
		back = g.static[r.Instance]
	}
	mem, err := g.joining(r)
	if err != nil {
		if err == kerr.MemberIDRequired {
			r.MemberID = g.handOut(r)
		}
		return err
	}
	if mem.join != nil {
		mem.answer(kerr.RebalanceInProgress) // an earlier connection of the same member
	}
	mem.join = ch
	g.joined(mem, r, back)
	return nil
}

// text reports whether all names are UTF-8: the journal keeps text.
func (r *JoinRequest) text() bool {
	ok := utf8.ValidString(r.MemberID) && utf8.ValidString(r.Instance) && utf8.ValidString(r.ProtocolType)
	for _, p := range r.Protocols {
		ok = ok && utf8.ValidString(p.Name)
	}
	return ok
}

// fits checks that a member shares a protocol with all others, and that there
// is room for what it says.
func (g *group) fits(r *JoinRequest) error {
	if r.ProtocolType == "" || len(r.Protocols) == 0 || len(r.Protocols) > maxProtocols {
		return kerr.InconsistentGroupProtocol
	}
	self := r.MemberID
	if self == "" && r.Instance != "" {
		self = g.static[r.Instance]
	}
	size, assignment := 0, []byte(nil)
	if mem := g.members[self]; mem != nil {
		size, assignment = mem.size, mem.assignment
	}
	if err := g.room(memberSize(r, assignment) - size); err != nil {
		return err
	}
	if len(g.members) == 0 {
		return nil
	}
	if r.ProtocolType != g.protocolType {
		return kerr.InconsistentGroupProtocol
	}
	for _, p := range r.Protocols {
		if g.allKnow(p.Name, self) {
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
func (g *group) joining(r *JoinRequest) (*member, error) {
	if r.MemberID != "" {
		if g.unpend(r.MemberID) {
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

func (g *group) admit(r *JoinRequest, id string) *member {
	mem := &member{id: id, instance: r.Instance, client: r.Client, host: r.Host, session: r.Session}
	g.add(mem)
	return mem
}

// replace gives a static member (KIP-345) that came back a new id; whoever
// still uses the old one is fenced. Its assignment stays its own, unless the
// leader is about to assign to the old id: then all must join again.
func (g *group) replace(old *member, r *JoinRequest) *member {
	old.expiry.stop()
	old.answer(kerr.FencedInstanceID)
	mem := &member{
		id: newMemberID(r.Client), instance: r.Instance, client: r.Client, host: r.Host, session: r.Session,
		protocols: old.protocols, assignment: old.assignment, rebalance: old.rebalance, synced: old.synced, size: old.size,
	}
	delete(g.members, old.id)
	g.members[mem.id] = mem
	g.order[slices.Index(g.order, old.id)] = mem.id
	g.static[mem.instance] = mem.id
	if g.leader == old.id {
		g.leader = mem.id
	}
	mem.expiry = g.m.watch(mem.session, func() { g.expire(mem) })
	if g.state == Completing {
		g.prepare()
	}
	return mem
}

// pendingBytes is what an id takes that was handed out and not used yet.
const pendingBytes = 500

// handOut makes a member id that must be used within the session timeout.
func (g *group) handOut(r *JoinRequest) string {
	id := newMemberID(r.Client)
	g.m.bytes += pendingBytes
	g.pending[id] = g.m.after(r.Session, func() {
		g.unpend(id)
		g.changedPending()
	})
	return id
}

// unpend takes an id back; false if it was not handed out.
func (g *group) unpend(id string) bool {
	t := g.pending[id]
	if t != nil {
		t.Stop()
		delete(g.pending, id)
		g.m.bytes -= pendingBytes
	}
	return t != nil
}

func (g *group) changedPending() {
	if g.state == Preparing {
		g.tryComplete()
		return
	}
	g.forget()
}

// joined puts a member's wishes in and decides whether they need a rebalance.
// back is the id that a static member had before it came back.
func (g *group) joined(mem *member, r *JoinRequest, back string) {
	same := slices.EqualFunc(mem.protocols, r.Protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
	mem.protocols, mem.client, mem.host = r.Protocols, r.Client, r.Host
	mem.session, mem.rebalance = r.Session, r.Rebalance
	g.charge(mem, memberSize(r, mem.assignment))
	mem.expiry.renew(mem.session)
	g.protocolType = r.ProtocolType
	switch {
	case g.state == Preparing:
		g.tryComplete()
	case g.state == Stable && back != "" && g.choose() == g.protocol:
		g.returned(mem, back, r.SkipsAssignment)
	case g.state == Completing && same,
		g.state == Stable && same && mem.id != g.leader:
		// It has lost our answer, or asks again: nothing changes.
		mem.join <- g.result(mem)
		mem.join = nil
	default:
		g.prepare()
	}
}

// returned answers a static member that came back to a stable group: nobody
// else notices, once its new id is on disk. A leader is told not to assign,
// or, if it would not understand, that its former self still leads.
func (g *group) returned(mem *member, back string, skips bool) {
	res := g.result(mem)
	switch {
	case mem.id != g.leader:
	case skips:
		res.SkipAssignment = true
	default:
		res.Leader, res.Members = back, nil
	}
	ch := mem.join
	mem.join = nil
	g.m.save(g.record, g.change(g.assignments()), func(err error) {
		if err != nil {
			res = JoinResult{Err: err, MemberID: res.MemberID, Generation: -1}
		}
		ch <- res
	})
}

func (g *group) assignments() map[string][]byte {
	out := make(map[string][]byte, len(g.members))
	for id, mem := range g.members {
		out[id] = mem.assignment
	}
	return out
}
