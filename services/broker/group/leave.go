package group

import "github.com/twmb/franz-go/pkg/kerr"

// leaving ends a membership, or, of a static member, its present life.
func (c *consumerGroup) leaving(r *HeartbeatRequest) HeartbeatResult {
	mem := c.members[r.MemberID]
	if r.Instance != nil {
		switch holder, known := c.static[*r.Instance]; {
		case !known:
			return refused(kerr.UnknownMemberID, "")
		case holder != r.MemberID:
			return refused(kerr.FencedInstanceID, "")
		}
	}
	if mem == nil {
		return refused(kerr.UnknownMemberID, "")
	}
	if r.Epoch == leftForNow {
		c.release(mem, mem.revoking)
		stop(mem.revocation)
		mem.epoch, mem.revoking = leftForNow, nil
		c.touch(mem)
	} else {
		c.remove(mem)
	}
	return HeartbeatResult{MemberID: r.MemberID, Epoch: r.Epoch, Interval: c.interval()}
}

// leave takes a member out at an administrator's wish, by its id or instance.
func (c *consumerGroup) leave(id, instance string) error {
	if id == "" && instance != "" {
		id = c.static[instance]
	}
	mem := c.members[id]
	switch {
	case mem == nil:
		return kerr.UnknownMemberID
	case instance != "" && c.static[instance] != id:
		return kerr.FencedInstanceID
	}
	c.remove(mem)
	c.flush()
	return nil
}
