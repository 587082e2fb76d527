// Package group is the coordinator of classic consumer groups: who is a
// member, who leads, which generation it is. What the members say to each
// other stays opaque. Nothing here is on disk: after a restart members find
// themselves unknown and join again, and go on from their committed offsets.
package group

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
)

// State of a group, named as Kafka reports it.
type State string

// A group goes from Empty to PreparingRebalance when somebody joins, to
// CompletingRebalance when all have joined, to Stable when the leader has
// assigned, and back to PreparingRebalance when anybody comes or goes.
const (
	Empty      State = "Empty"
	Preparing  State = "PreparingRebalance"
	Completing State = "CompletingRebalance"
	Stable     State = "Stable"
	Dead       State = "Dead" // reported for a group that does not exist
)

// Limits of what a client may ask for.
const (
	minSession = time.Second
	maxSession = 30 * time.Minute
	maxMembers = 1000
	maxGroups  = 10000
)

// Manager coordinates all groups. Safe for concurrent use. Errors that it
// returns are of package kerr.
type Manager struct {
	delay time.Duration

	mu     sync.Mutex // guards everything below, and every group
	groups map[string]*group
	closed bool
}

// New returns a manager. A new group waits for delay, for more members.
func New(delay time.Duration) *Manager {
	return &Manager{delay: delay, groups: map[string]*group{}}
}

type group struct {
	m            *Manager
	id           string
	state        State
	generation   int32
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	order        []string               // member ids, by first join
	static       map[string]string      // group.instance.id -> member id
	pending      map[string]*time.Timer // ids handed out (KIP-394), not joined yet
	timer        *time.Timer            // of the rebalance under way
	round        int                    // tells a timer of an earlier rebalance
	deadline     time.Time              // when the first members stop being waited for
}

// Protocol is one assignment strategy that a member knows, with what it says
// about itself under it.
type Protocol struct {
	Name     string
	Metadata []byte
}

type member struct {
	id, instance string
	client, host string
	session      time.Duration
	rebalance    time.Duration
	protocols    []Protocol
	assignment   []byte
	expiry       *time.Timer
	join         chan JoinResult // set while its join waits
	sync         chan SyncResult // set while its sync waits
}

// Close answers everybody who waits.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, g := range m.groups {
		stop(g.timer)
		for _, t := range g.pending {
			t.Stop()
		}
		for _, mem := range g.members {
			mem.expiry.Stop()
			mem.answer(kerr.CoordinatorNotAvailable)
		}
	}
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// answer ends what a member waits for with an error.
func (mem *member) answer(err error) {
	if mem.join != nil {
		mem.join <- JoinResult{Err: err, MemberID: mem.id, Generation: -1}
		mem.join = nil
	}
	if mem.sync != nil {
		mem.sync <- SyncResult{Err: err}
		mem.sync = nil
	}
}

// after runs f with the manager locked, d from now, unless it was closed.
func (m *Manager) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.closed {
			f()
		}
	})
}

// get finds a group; make says to make it when it is not there.
func (m *Manager) get(id string, make bool) (*group, error) {
	switch g := m.groups[id]; {
	case m.closed:
		return nil, kerr.CoordinatorNotAvailable
	case id == "":
		return nil, kerr.InvalidGroupID
	case g != nil:
		return g, nil
	case !make:
		return nil, kerr.UnknownMemberID
	case len(m.groups) >= maxGroups:
		return nil, kerr.CoordinatorNotAvailable
	}
	g := &group{
		m: m, id: id, state: Empty,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]*time.Timer{},
	}
	m.groups[id] = g
	return g, nil
}

// forget drops a group that nobody is in.
func (g *group) forget() {
	if len(g.members) == 0 && len(g.pending) == 0 && g.state == Empty {
		delete(g.m.groups, g.id)
	}
}

func newMemberID(client string) string { return client + "-" + uuid.NewString() }

// find checks that a member is who it says it is.
func (g *group) find(id, instance string) (*member, error) {
	if instance != "" {
		known, ok := g.static[instance]
		if !ok {
			return nil, kerr.UnknownMemberID
		}
		if known != id {
			return nil, kerr.FencedInstanceID
		}
	}
	mem := g.members[id]
	if mem == nil {
		return nil, kerr.UnknownMemberID
	}
	return mem, nil
}

// add takes a new member in.
func (g *group) add(mem *member) {
	g.members[mem.id] = mem
	g.order = append(g.order, mem.id)
	if mem.instance != "" {
		g.static[mem.instance] = mem.id
	}
	mem.expiry = g.m.after(mem.session, func() { g.expire(mem) })
}

// remove takes a member out; the group is not rebalanced yet.
func (g *group) remove(mem *member) {
	mem.expiry.Stop()
	mem.answer(kerr.UnknownMemberID)
	delete(g.members, mem.id)
	g.order = slices.DeleteFunc(g.order, func(id string) bool { return id == mem.id })
	if g.static[mem.instance] == mem.id {
		delete(g.static, mem.instance)
	}
	if g.leader == mem.id {
		g.leader = ""
	}
}

// expire removes a member that was not heard of for its session. One that
// waits for an answer is alive as far as anybody can tell.
func (g *group) expire(mem *member) {
	if g.members[mem.id] != mem {
		return
	}
	if mem.join != nil || mem.sync != nil {
		mem.expiry.Reset(mem.session)
		return
	}
	g.remove(mem)
	g.changed()
}

// changed rebalances after somebody left.
func (g *group) changed() {
	switch g.state {
	case Stable, Completing:
		g.prepare()
	case Preparing:
		g.tryComplete()
	case Empty:
		g.forget()
	}
}

// Info describes a group.
type Info struct {
	ID, ProtocolType, Protocol string
	State                      State
	Members                    []MemberInfo
}

// MemberInfo describes a member.
type MemberInfo struct {
	ID, Instance, Client, Host string
	Metadata, Assignment       []byte
}

// Describe returns a group; its state is Dead when there is none.
func (m *Manager) Describe(id string) Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[id]
	if g == nil {
		return Info{ID: id, State: Dead}
	}
	info := g.info()
	for _, id := range g.order {
		mem := g.members[id]
		mi := MemberInfo{ID: mem.id, Instance: mem.instance, Client: mem.client, Host: mem.host, Assignment: mem.assignment}
		if g.state == Stable || g.state == Completing {
			mi.Metadata = mem.metadata(g.protocol)
		}
		info.Members = append(info.Members, mi)
	}
	return info
}

func (g *group) info() Info {
	return Info{ID: g.id, ProtocolType: g.protocolType, Protocol: g.protocol, State: g.state}
}

// List returns all groups, by id, without members.
func (m *Manager) List() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Info
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		out = append(out, m.groups[id].info())
	}
	return out
}

// Delete forgets a group without members; kerr.NonEmptyGroup otherwise.
func (m *Manager) Delete(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[id]
	if g == nil {
		return nil
	}
	if len(g.members) > 0 {
		return kerr.NonEmptyGroup
	}
	stop(g.timer)
	for _, t := range g.pending {
		t.Stop()
	}
	delete(m.groups, id)
	return nil
}
