// Package group is the coordinator of consumer groups: who is a member, and
// who has which partition. Members of classic groups assign among themselves
// and what they say to each other stays opaque; in groups of the consumer
// protocol (KIP-848) the coordinator assigns. What a member has been told is
// on disk before, so that after a restart it goes on as if nothing was.
package group

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// State of a group, named as Kafka reports it.
type State string

// A classic group goes from Empty to PreparingRebalance when somebody joins,
// to CompletingRebalance when all have joined, to Stable when the leader has
// assigned, and back to PreparingRebalance when anybody comes or goes. A
// consumer group is Assigning while its targets are older than its members,
// and Reconciling while members are on the way to theirs.
const (
	Empty       State = "Empty"
	Preparing   State = "PreparingRebalance"
	Completing  State = "CompletingRebalance"
	Assigning   State = "Assigning"
	Reconciling State = "Reconciling"
	Stable      State = "Stable"
	Dead        State = "Dead" // reported for a group that does not exist
)

// Types of groups, named as Kafka reports them.
const (
	Classic  = "classic"
	Consumer = "consumer"
)

// Limits of what a client may ask for.
const (
	minSession   = time.Second
	maxSession   = 30 * time.Minute
	maxMembers   = 1000
	maxGroups    = 10000
	maxProtocols = 64
	// maxID bounds ids of groups, members and instances, in bytes.
	maxID = 1024
	// maxGroupBytes bounds what the members of one group say and are assigned,
	// as a record of 1 MiB does in Kafka; maxBytes all groups together. What
	// is on disk of it is in memory a second time.
	maxGroupBytes = 1 << 20
	maxBytes      = 12 << 20
)

// Options of a manager. The zero value of a duration means the default named
// beside it.
type Options struct {
	Meta *meta.Store
	Log  *slog.Logger
	// Delay is how long a new classic group waits for more members; none.
	Delay time.Duration
	// Session, and the Interval of heartbeats, are what members of the
	// consumer protocol are held to; 45 s and 5 s, as in Kafka.
	Session, Interval time.Duration
	// Retention is how long the commits of a group without members are kept,
	// counted while the broker runs; for ever.
	Retention time.Duration
	// Setting is the broker's configuration by its name in Kafka, "" if it is
	// not set; it goes before the fields above. A group's own configuration
	// goes before both. May be nil.
	Setting func(name string) string
	// Taken reports whether a group of another kind has an id. May be nil.
	Taken func(id string) bool
}

// milliseconds is a configuration of that unit, or def.
func milliseconds(value string, def time.Duration) time.Duration {
	if ms, err := strconv.ParseInt(value, 10, 64); err == nil && ms >= 0 && ms < 1<<40 {
		return time.Duration(ms) * time.Millisecond
	}
	return def
}

func (o *Options) setting(name string) string {
	if o.Setting == nil {
		return ""
	}
	return o.Setting(name)
}

// Manager coordinates all groups. Safe for concurrent use. Errors that it
// returns are of package kerr, or of the journal.
type Manager struct {
	Options

	wg sync.WaitGroup // of those who write to the journal

	mu        sync.Mutex // guards everything below, and every group
	groups    map[string]*group
	consumers map[string]*consumerGroup
	deleting  map[string]bool // ids of groups whose deletion is under way
	bytes     int64           // what all members say, see maxBytes
	topics    topics
	idle      map[string]idleSince
	sweeper   *time.Timer
	closed    bool
}

// New returns a manager of the groups that meta knows. Their members have a
// whole session to be heard of.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Session == 0 {
		o.Session = 45 * time.Second
	}
	if o.Interval == 0 {
		o.Interval = 5 * time.Second
	}
	m := &Manager{
		Options: o, groups: map[string]*group{}, consumers: map[string]*consumerGroup{},
		deleting: map[string]bool{}, idle: map[string]idleSince{},
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restore()
	m.sweepLater()
	return m
}

// group is a classic one.
type group struct {
	*record
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
	assigning    bool                   // the leader's assignments are being written
	dropping     bool                   // the disk is about to forget the group
	size         int                    // of all members, in bytes
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
	expiry       *session
	synced       bool            // has asked for what this generation assigns
	join         chan JoinResult // set while its join waits
	sync         chan SyncResult // set while its sync waits
	size         int             // see memberSize
}

// Close answers everybody who waits, and waits for what is being written.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	stop(m.sweeper)
	for _, g := range m.groups {
		stop(g.timer)
		for _, t := range g.pending {
			t.Stop()
		}
		for _, mem := range g.members {
			mem.expiry.stop()
			mem.answer(kerr.CoordinatorNotAvailable)
		}
	}
	for _, g := range m.consumers {
		for _, mem := range g.members {
			mem.release()
		}
	}
	m.mu.Unlock()
	m.wg.Wait()
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// after runs f with the manager locked, d from now, unless it was closed. It
// is measured by the monotonic clock: setting the box's clock ends no session.
func (m *Manager) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.closed {
			f()
		}
	})
}

// session calls end when it was not renewed in time. One that is renewed while
// its timer waits for the manager's lock goes on.
type session struct {
	timer *time.Timer
	until time.Time // monotonic
}

func (m *Manager) watch(d time.Duration, end func()) *session {
	s := &session{until: time.Now().Add(d)}
	s.timer = m.after(d, func() {
		if left := time.Until(s.until); left > 0 {
			s.timer.Reset(left)
			return
		}
		end()
	})
	return s
}

func (s *session) renew(d time.Duration) {
	s.until = time.Now().Add(d)
	s.timer.Reset(d)
}

func (s *session) stop() { s.timer.Stop() }

// ready says whether a group's members may be answered.
func (m *Manager) ready(id string) error {
	switch {
	case m.closed:
		return kerr.CoordinatorNotAvailable
	case len(id) > maxID, !utf8.ValidString(id): // the journal keeps text
		return kerr.InvalidGroupID
	case m.deleting[id]:
		return kerr.CoordinatorLoadInProgress
	}
	return nil
}

// get finds a classic group; make says to make it when it is not there. A
// group of the consumer protocol becomes classic then: it has no members.
func (m *Manager) get(id string, make bool) (*group, error) {
	if err := m.ready(id); err != nil {
		return nil, err
	}
	g, c := m.groups[id], m.consumers[id]
	switch {
	case id == "":
		return nil, kerr.InvalidGroupID
	case g != nil:
		return g, nil
	case !make:
		return nil, kerr.UnknownMemberID
	case c == nil && m.taken(id):
		return nil, kerr.InconsistentGroupProtocol
	case c == nil && m.full():
		return nil, kerr.CoordinatorNotAvailable
	}
	g = m.newGroup(id)
	if c != nil {
		g.record, g.generation = c.record, c.epoch
		delete(m.consumers, id)
	}
	m.groups[id] = g
	return g, nil
}

func (m *Manager) taken(id string) bool { return m.Taken != nil && m.Taken(id) }

// Has reports whether a group has an id, if only because of what it has
// committed.
func (m *Manager) Has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.groups[id] != nil || m.consumers[id] != nil || m.Meta.HasGroup(id)
}

func (m *Manager) full() bool { return len(m.groups)+len(m.consumers) >= maxGroups }

func (m *Manager) newGroup(id string) *group {
	return &group{
		record: &record{}, m: m, id: id, state: Empty,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]*time.Timer{},
	}
}

func newMemberID(client string) string {
	return strings.ToValidUTF8(client[:min(len(client), maxID/2)], "") + "-" + uuid.NewString()
}
