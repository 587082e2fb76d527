package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// prepare begins a rebalance: members learn of it at their next heartbeat and
// join again, for at most the longest of their rebalance timeouts. A group
// that begins anew waits a little for more members instead.
func (g *group) prepare() {
	fresh := g.state == Empty
	g.state = Preparing
	g.round++
	g.assigning = false
	stop(g.timer)
	for _, mem := range g.members {
		if mem.sync != nil {
			mem.sync <- SyncResult{Err: kerr.RebalanceInProgress}
			mem.sync = nil
			mem.expiry.renew(mem.session)
		}
	}
	if fresh && g.m.Delay > 0 {
		g.deadline = time.Now().Add(g.m.Delay)
		g.arm(g.m.Delay)
		return
	}
	g.deadline = time.Time{}
	g.arm(g.timeout())
	g.tryComplete()
}

// arm ends the rebalance after d.
func (g *group) arm(d time.Duration) {
	round := g.round
	g.timer = g.m.after(d, func() {
		if g.state == Preparing && g.round == round {
			g.complete()
		}
	})
}

func (g *group) timeout() time.Duration {
	longest := minSession
	for _, mem := range g.members {
		longest = max(longest, mem.rebalance)
	}
	return min(longest, maxSession)
}

// tryComplete ends the rebalance when nobody is missing any more.
func (g *group) tryComplete() {
	if time.Now().Before(g.deadline) || len(g.pending) > 0 {
		return
	}
	for _, mem := range g.members {
		if mem.join == nil {
			return
		}
	}
	g.complete()
}

// complete begins the next generation with those who have joined. A static
// member that is missing keeps its place until its session ends; if only such
// are left, nobody could lead, and they are waited for.
func (g *group) complete() {
	stop(g.timer)
	g.timer, g.deadline = nil, time.Time{}
	joined := 0
	for _, id := range slices.Clone(g.order) {
		switch mem := g.members[id]; {
		case mem.join != nil:
			joined++
		case mem.instance == "":
			g.remove(mem)
		}
	}
	if joined == 0 && len(g.members) > 0 {
		g.arm(g.timeout())
		return
	}
	g.generation++
	if len(g.members) == 0 {
		g.emptied()
		return
	}
	g.state = Completing
	g.protocol = g.choose()
	g.elect()
	for _, id := range g.order {
		mem := g.members[id]
		mem.synced = false
		if mem.join == nil {
			continue
		}
		mem.join <- g.result(mem)
		mem.join = nil
		mem.expiry.renew(mem.session)
	}
	g.awaitSyncs()
}

// emptied ends the last generation of a group whose members have all gone.
func (g *group) emptied() {
	g.state, g.protocol, g.leader = Empty, "", ""
	if g.forget(); g.m.groups[g.id] == g && !g.dropping {
		g.m.save(g.record, g.change(nil), nil)
	}
}

// awaitSyncs removes members that join and then never ask for what they are
// assigned: without a leader's assignment all would wait for ever.
func (g *group) awaitSyncs() {
	round := g.round
	g.timer = g.m.after(g.timeout(), func() {
		if g.round != round {
			return
		}
		late := slices.DeleteFunc(slices.Clone(g.order), func(id string) bool { return g.members[id].synced })
		for _, id := range late {
			g.remove(g.members[id])
		}
		if len(late) > 0 {
			g.changed()
		}
	})
}

// elect keeps the leader if it has joined again, else takes the first who has.
func (g *group) elect() {
	if mem := g.members[g.leader]; mem != nil && mem.join != nil {
		return
	}
	g.leader = g.order[0]
	for _, id := range g.order {
		if g.members[id].join != nil {
			g.leader = id
			return
		}
	}
}

// choose picks the protocol that most members like best among those that all
// know.
func (g *group) choose() string {
	votes := map[string]int{}
	best := ""
	for _, id := range g.order {
		for _, p := range g.members[id].protocols {
			if !g.allKnow(p.Name, id) {
				continue
			}
			votes[p.Name]++
			if best == "" || votes[p.Name] > votes[best] {
				best = p.Name
			}
			break
		}
	}
	return best
}

func (g *group) result(mem *member) JoinResult {
	res := JoinResult{
		MemberID: mem.id, Generation: g.generation, ProtocolType: g.protocolType,
		Protocol: g.protocol, Leader: g.leader,
	}
	if mem.id != g.leader {
		return res
	}
	for _, id := range g.order {
		m := g.members[id]
		res.Members = append(res.Members, MemberInfo{ID: m.id, Instance: m.instance, Metadata: m.metadata(g.protocol)})
	}
	return res
}
