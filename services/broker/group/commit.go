package group

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Commit is a wish to commit offsets.
type Commit struct {
	Member
	// Transactional commits may come without a member, as older producers'
	// do, while the group has members (KIP-447).
	Transactional bool
	// Old says that the request is of a version that knows nothing of the
	// consumer protocol (OffsetCommit before 9).
	Old bool
}

// MayCommit is MayCommitEach for a commit within a transaction, of all its
// partitions.
func (m *Manager) MayCommit(r Member) error {
	per, err := m.MayCommitEach(Commit{Member: r, Transactional: true})
	if per != nil {
		return kerr.StaleMemberEpoch
	}
	return err
}

// MayCommitEach says whether offsets may be committed: by a member of the
// present generation or epoch, or, with generation -1 and no member, by
// anybody while the group has no members. For a member of an earlier epoch,
// per says it for each partition; it is nil otherwise.
func (m *Manager) MayCommitEach(r Commit) (per func(topic meta.ID, part int32) error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nobody := r.Generation < 0 && r.ID == "" && r.Instance == ""
	if err := m.ready(r.Group); err != nil {
		return nil, err
	}
	if c := m.consumers[r.Group]; c != nil {
		return c.mayCommit(r, nobody)
	}
	g := m.groups[r.Group]
	switch {
	case g == nil && m.taken(r.Group):
		return nil, kerr.GroupIDNotFound
	case r.Generation < 0 && (g == nil || g.state == Empty):
		return nil, nil
	case nobody && r.Transactional:
		return nil, nil
	case g == nil:
		return nil, kerr.IllegalGeneration
	}
	if g, _, err = m.current(r.Member); err == nil && g.state == Completing && !r.Transactional {
		err = kerr.RebalanceInProgress
	}
	return nil, err
}

func (c *consumerGroup) mayCommit(r Commit, nobody bool) (func(meta.ID, int32) error, error) {
	if r.Generation < 0 && len(c.members) == 0 || nobody && r.Transactional {
		return nil, nil
	}
	mem := c.members[r.ID]
	switch {
	case mem == nil:
		return nil, kerr.UnknownMemberID
	case r.Old && mem.classic == nil:
		return nil, kerr.UnsupportedVersion
	case r.Instance != "" && c.static[r.Instance] != r.ID:
		return nil, kerr.FencedInstanceID
	case mem.classic != nil && r.Generation != mem.epoch:
		return nil, kerr.IllegalGeneration
	case r.Generation > mem.epoch:
		return nil, kerr.StaleMemberEpoch
	case r.Generation == mem.epoch:
		return nil, nil
	}
	// A commit that crosses the answer with a new epoch is good for what the
	// member has had since (KIP-1251).
	held := mem.heldSince()
	return func(topic meta.ID, part int32) error {
		if since, ok := held[slot{topic, part}]; ok && since <= r.Generation {
			return nil
		}
		return kerr.StaleMemberEpoch
	}, nil
}

// MayFetch says whether a member may ask for offsets; anybody may without
// saying who he is.
func (m *Manager) MayFetch(groupID, memberID string, epoch int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(groupID); err != nil {
		return err
	}
	c := m.consumers[groupID]
	if c == nil || memberID == "" && epoch < 0 {
		return nil
	}
	switch mem := c.members[memberID]; {
	case mem == nil:
		return kerr.UnknownMemberID
	case mem.epoch != epoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}

// MayDelete says whether offsets of a group may be taken back: of any topic
// while the group has no members, else of those for which used is false.
func (m *Manager) MayDelete(groupID string) (used func(topic string) bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(groupID); err != nil {
		return nil, err
	}
	topics := map[string]bool{}
	used = func(topic string) bool { return topics[topic] }
	if c := m.consumers[groupID]; c != nil {
		for _, mem := range c.members {
			for _, t := range c.subscription(mem) {
				topics[t] = true
			}
		}
		return used, nil
	}
	g := m.groups[groupID]
	if g == nil && !m.Meta.HasGroup(groupID) {
		return nil, kerr.GroupIDNotFound
	}
	if g == nil || g.state == Empty {
		return used, nil
	}
	if g.protocolType != "consumer" {
		return nil, kerr.NonEmptyGroup
	}
	for _, mem := range g.members {
		for _, p := range mem.protocols {
			if !subscribed(p.Metadata, topics) {
				return func(string) bool { return true }, nil
			}
		}
	}
	return used, nil
}
