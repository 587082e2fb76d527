package group

import (
	"strconv"
	"strings"
	"time"
)

// linkGroups begins the ids of the replicator's groups. Their commits never
// go: a link may be down for longer than any retention.
const linkGroups = "wayside.link."

// idleSince is from when on a group's commits are not needed, as far as is
// known: it has no members and nobody has committed.
type idleSince struct {
	begin    time.Time // monotonic
	commitMs int64     // of the newest commit then
}

// retention is how long commits without members are kept; 0 is for ever.
func (m *Manager) retention() time.Duration {
	if n, err := strconv.ParseInt(m.setting("offsets.retention.minutes"), 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Minute
	}
	return max(m.Retention, 0)
}

// sweepLater looks for groups whose commits are to be forgotten now and then.
func (m *Manager) sweepLater() {
	every := time.Hour
	if keep := m.retention(); keep > 0 {
		every = min(max(keep/8, time.Second), every)
	}
	m.sweeper = m.after(every, func() {
		for _, id := range m.expired(time.Now()) {
			m.wg.Go(func() { m.expireCommits(id) })
		}
		m.sweepLater()
	})
}

// expired names the groups that have been idle for the retention. Time is
// counted while the broker runs, from its start or from when the group became
// idle: neither a clock that jumps nor a site that is switched off for a
// season ends anything.
func (m *Manager) expired(now time.Time) (out []string) {
	keep := m.retention()
	if keep == 0 {
		clear(m.idle)
		return nil
	}
	idle := map[string]idleSince{}
	for _, id := range m.Meta.Groups() {
		if g := m.groups[id]; g != nil && g.state != Empty {
			continue
		}
		if c := m.consumers[id]; c != nil && len(c.members) > 0 {
			continue
		}
		newest := int64(0)
		for _, o := range m.Meta.Offsets(id) {
			newest = max(newest, o.CommitMs)
		}
		since, known := m.idle[id]
		if !known || since.commitMs != newest {
			since = idleSince{now, newest}
		}
		idle[id] = since
		if now.Sub(since.begin) >= keep && !strings.HasPrefix(id, linkGroups) {
			out = append(out, id)
		}
	}
	m.idle = idle
	return out
}

func (m *Manager) expireCommits(id string) {
	if err := m.Delete(id); err != nil {
		m.Log.Warn("forget the commits of a group without members", "group", id, "err", err)
		return
	}
	m.Log.Info("the commits of a group without members are forgotten", "group", id)
}
