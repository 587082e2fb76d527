package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

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
	mem.expiry = g.m.watch(mem.session, func() { g.expire(mem) })
}

// remove takes a member out; the group is not rebalanced yet.
func (g *group) remove(mem *member) {
	mem.expiry.stop()
	mem.answer(kerr.UnknownMemberID)
	delete(g.members, mem.id)
	g.order = slices.DeleteFunc(g.order, func(id string) bool { return id == mem.id })
	if g.static[mem.instance] == mem.id {
		delete(g.static, mem.instance)
	}
	if g.leader == mem.id {
		g.leader = ""
	}
	g.charge(mem, 0)
}

// charge counts a member's new size, in its group and in all.
func (g *group) charge(mem *member, size int) {
	g.size += size - mem.size
	g.m.bytes += int64(size - mem.size)
	mem.size = size
}

// room says whether n bytes more of what members say can be held.
func (g *group) room(n int) error {
	switch {
	case g.size+n > maxGroupBytes:
		return kerr.GroupMaxSizeReached
	case g.m.bytes+int64(n) > maxBytes:
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

// memberSize is what is held of a member, in bytes.
func memberSize(r *JoinRequest, assignment []byte) int {
	n := 300 + len(r.MemberID) + len(r.Instance) + len(r.Client) + len(r.Host) + len(assignment)
	for _, p := range r.Protocols {
		n += 50 + len(p.Name) + len(p.Metadata)
	}
	return n
}

// expire removes a member that was not heard of for its session. One that
// waits for an answer is alive as far as anybody can tell.
func (g *group) expire(mem *member) {
	if g.members[mem.id] != mem {
		return
	}
	if mem.join != nil || mem.sync != nil {
		mem.expiry.renew(mem.session)
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

// forget drops a group that nobody is in and that has committed nothing. It
// stays until the disk has forgotten it too, so that whoever joins meanwhile
// is written after that.
func (g *group) forget() {
	if g.dropping || !g.forgettable() {
		return
	}
	if !g.kept {
		delete(g.m.groups, g.id)
		return
	}
	g.dropping = true
	g.m.save(g.record, meta.Group{ID: g.id, Type: Classic, Dropped: true}, func(err error) {
		g.dropping = false
		if err == nil && g.m.groups[g.id] == g && g.forgettable() && !g.kept {
			delete(g.m.groups, g.id)
		}
	})
}

func (g *group) forgettable() bool {
	return len(g.members) == 0 && len(g.pending) == 0 && g.state == Empty && !g.m.Meta.HasGroup(g.id)
}
