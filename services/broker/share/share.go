// Package share lets many consumers share the records of a partition
// (KIP-932): who is a member of a share group, and, record by record, what was
// delivered to whom, what is acknowledged, and what has to be delivered again.
// What an acknowledgement has changed is on disk before it is answered.
// Members, and who has acquired what, are not kept: after a restart members
// join again, and what they had acquired is delivered again.
package share

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Type and Assignor of share groups, named as Kafka reports them.
const (
	Type     = "share"
	Assignor = "simple"
)

// Limits of what clients may ask for.
const (
	maxGroups  = 1000
	maxMembers = 1000
	maxTopics  = 1000 // that a member subscribes to
	// maxBytes bounds what members say and are assigned, of all groups together.
	maxBytes    = 8 << 20
	maxID       = 1024 // bytes of a group's id
	maxMemberID = 36   // a UUID's text, as in Kafka
	// maxSessions and maxParts bound what members fetch, of all together.
	maxSessions = 2000
	maxParts    = 20_000
	// maxInFlight bounds the records in flight of all groups together; each
	// may take 40 bytes. Beyond it a partition has no more than fewLocks.
	maxInFlight = 400_000
	fewLocks    = 100
)

// Options of a manager.
type Options struct {
	Meta *meta.Store
	Log  *slog.Logger
	// Setting is the broker's configuration by its name in Kafka, "" if it is
	// not set; a group's own goes before it. May be nil.
	Setting func(name string) string
	// Taken reports whether a group of another kind has an id. May be nil.
	Taken func(id string) bool
}

// Manager is the coordinator of all share groups. Safe for concurrent use.
// Locks are taken in the order manager, partition, session, saver.
type Manager struct {
	Options
	saver    saver
	inFlight atomic.Int64 // records in flight of all windows in memory

	idMu sync.Mutex
	ids  map[string]bool // of groups in memory; see Has

	mu       sync.Mutex // guards what follows, and every group
	groups   map[string]*group
	sessions map[sessionKey]*Session
	parts    int // of all sessions
	bytes    int // of all groups, see maxBytes
	topics   topics
	closed   bool
}

// group is in memory while it has members or sessions, or something of it is
// on its way to the disk.
type group struct {
	id      string
	epoch   int32
	seen    uint64 // version of the topics that members are assigned
	members map[string]*member
	order   int64 // of the next member
	bytes   int   // of Manager.bytes
	// parts are partitions in use.
	parts    map[Partition]*partition
	sessions int
}

// Partition names one.
type Partition struct {
	Topic meta.ID
	Num   int32
}

// New returns a manager of the share groups that meta knows.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{Options: o}
	m.saver.m = m
	return m
}

// Close ends all timers and waits for what is being written.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	for _, g := range m.groups {
		for _, mem := range g.members {
			mem.expiry.Stop()
		}
		for _, p := range g.parts {
			p.close()
		}
	}
	m.mu.Unlock()
	m.saver.close()
}

// Has reports whether an id is that of a share group.
func (m *Manager) Has(id string) bool {
	m.idMu.Lock()
	defer m.idMu.Unlock()
	return m.ids[id] || m.Meta.HasShares(id)
}

// reserve takes an id for a share group; false if a group of another kind has
// it. Those ask Has before they take one, so that of two who ask at the same
// time one at least is refused.
func (m *Manager) reserve(id string) bool {
	m.idMu.Lock()
	if m.ids == nil {
		m.ids = map[string]bool{}
	}
	m.ids[id] = true
	m.idMu.Unlock()
	if m.Taken == nil || !m.Taken(id) {
		return true
	}
	m.free(id)
	return false
}

func (m *Manager) free(id string) {
	m.idMu.Lock()
	defer m.idMu.Unlock()
	delete(m.ids, id)
}

// group finds a group, or makes it. The manager is locked.
func (m *Manager) group(id string) (*group, error) {
	g := m.groups[id]
	switch {
	case g != nil:
		return g, nil
	case id == "" || len(id) > maxID || !utf8.ValidString(id): // the journal keeps text
		return nil, kerr.InvalidGroupID
	case m.closed:
		return nil, kerr.CoordinatorNotAvailable
	case len(m.groups) >= maxGroups:
		return nil, kerr.CoordinatorNotAvailable
	case !m.reserve(id):
		return nil, kerr.GroupIDNotFound // "is not a share group", as in Kafka
	}
	g = &group{id: id, members: map[string]*member{}, parts: map[Partition]*partition{}}
	if m.groups == nil {
		m.groups = map[string]*group{}
	}
	m.groups[id] = g
	return g, nil
}

// tidy forgets what nobody uses and what is on disk. The manager is locked.
func (m *Manager) tidy(g *group) {
	if len(g.members) > 0 || g.sessions > 0 || m.groups[g.id] != g {
		return
	}
	for key, p := range g.parts {
		if p.retire() {
			delete(g.parts, key)
		}
	}
	if len(g.parts) == 0 {
		delete(m.groups, g.id)
		m.free(g.id)
	}
}

// tidyAll is tidy for the groups of some partitions.
func (m *Manager) tidyAll(parts map[*partition]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := map[*group]bool{}
	for p := range parts {
		if !done[p.group] {
			m.tidy(p.group)
		}
		done[p.group] = true
	}
}

// groupResource is Kafka's number of the type of resource that a group is.
const groupResource = 32

// setting is a group's configuration: its own, else the broker's, else "".
func (m *Manager) setting(group, name string) string {
	if own, ok := m.Meta.ConfigOf(meta.Resource{Type: groupResource, Name: group})["share."+name]; ok {
		return own
	}
	if m.Setting == nil {
		return ""
	}
	return m.Setting("group.share." + name)
}

// number is a numeric configuration, which was checked when it was set.
func (m *Manager) number(group, name string, def int64) int64 {
	if n, err := strconv.ParseInt(m.setting(group, name), 10, 64); err == nil && n > 0 {
		return n
	}
	return def
}

func (m *Manager) duration(group, name string, def time.Duration) time.Duration {
	return time.Duration(m.number(group, name, def.Milliseconds())) * time.Millisecond
}

// LockDuration is how long a member may keep what it has acquired.
func (m *Manager) LockDuration(group string) time.Duration {
	return m.duration(group, "record.lock.duration.ms", 30*time.Second)
}

func (m *Manager) deliveries(group string) int16 {
	return int16(m.number(group, "delivery.count.limit", 5))
}

func (m *Manager) locks(group string) int64 {
	n := m.number(group, "partition.max.record.locks", 2000)
	if m.inFlight.Load() > maxInFlight {
		n = min(n, fewLocks)
	}
	return n
}

func (m *Manager) committed(group string) bool {
	return m.setting(group, "isolation.level") == "read_committed"
}
