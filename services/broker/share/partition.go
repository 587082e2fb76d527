package share

import (
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/store"
)

// partition is a partition as one share group has it: its window, over its log.
type partition struct {
	m     *Manager
	group *group
	key   Partition

	mu       sync.Mutex
	log      *store.Log // nil: it is only to be deleted
	begun    bool       // the window is known
	window   window
	held     int64 // of Manager.inFlight
	watchers map[*Part]bool
	timer    *time.Timer // of the first lock that ends
	alarm    time.Time   // when it rings; zero when it is not set
	dropped  bool        // its state is deleted, and nobody has used it since
	closed   bool        // it is nobody's any more: another may be in its place
}

// partition finds or makes a partition of a group. The manager is locked.
func (m *Manager) partition(g *group, key Partition, log *store.Log) *partition {
	p := g.parts[key]
	if p == nil {
		p = &partition{m: m, group: g, key: key}
		g.parts[key] = p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		p.log = log
	}
	return p
}

// begin takes the partition up where the group left it, or, when it never had
// it, begins where its configuration says and has that written: a group that
// begins at the log's end must not begin at a later one after a restart. The
// partition is locked.
func (p *partition) begin() error {
	if p.begun {
		return nil
	}
	if kept, ok := p.m.Meta.Share(p.group.id, p.key.Topic, p.key.Num); ok && !p.dropped {
		p.load(kept)
		p.account()
	} else {
		if p.m.Meta.SharesFull() {
			return errFull
		}
		start, err := p.reset()
		if err != nil {
			return err
		}
		p.window = window{start: start}
		p.m.saver.note(p)
	}
	p.begun, p.dropped = true, false
	return nil
}

// put makes the partition begin at an offset, at the log's end if that is
// before it, or, below 0, forgets it. Whoever has acquired anything of it has
// not any more.
func (p *partition) put(start int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.dropped, p.window = start >= 0, start < 0, window{}
	if p.begun {
		_, hw := p.log.Bounds()
		p.window.start = min(start, hw)
	}
	p.changed(true)
	p.wake()
}

// errFull reaches clients as an error of the storage, which they retry.
var errFull = errors.New("the states of share groups take too much memory; delete groups that are not used")

// reset is where a group begins that has no state.
func (p *partition) reset() (int64, error) {
	start, stable, hw := p.log.Bounds3()
	if p.m.committed(p.group.id) {
		hw = stable
	}
	back, duration := catalog.ByDuration(p.m.setting(p.group.id, "auto.offset.reset"))
	switch {
	case duration:
		found, ok, err := p.log.OffsetForTime(time.Now().Add(-back).UnixMilli())
		if err != nil || !ok {
			return hw, err
		}
		return found.Offset, nil
	case p.m.setting(p.group.id, "auto.offset.reset") == "earliest":
		return start, nil
	}
	return hw, nil
}

// changed accounts for a change of the window, and has it written if it is one
// that a restart must know of. The partition is locked.
func (p *partition) changed(keep bool) {
	p.account()
	p.arm()
	if keep && !p.closed {
		p.m.saver.note(p)
	}
}

func (p *partition) account() {
	if p.closed {
		return
	}
	now := p.window.inFlight()
	p.m.inFlight.Add(now - p.held)
	p.held = now
}

// wake tells those who wait for records that there may be some.
func (p *partition) wake() {
	for w := range p.watchers {
		w.Changed()
	}
}

// arm sets the timer for the first lock that ends.
func (p *partition) arm() {
	next := p.window.expiry()
	switch {
	case p.closed || next.IsZero() || !p.alarm.IsZero() && !next.Before(p.alarm):
		return // when it rings it is set for what there is then
	case p.timer == nil:
		p.timer = time.AfterFunc(time.Until(next), p.ring)
	default:
		p.timer.Reset(time.Until(next))
	}
	p.alarm = next
}

// ring takes back what was acquired for too long. It is measured by the
// monotonic clock: setting the box's clock ends no lock.
func (p *partition) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarm = time.Time{}
	if p.closed {
		return
	}
	expired := p.window.expire(time.Now(), p.m.deliveries(p.group.id))
	p.changed(expired)
	if expired {
		p.wake()
	}
}

// watch has w told of changes of the log and of the window, unless its session
// has ended.
func (p *partition) watch(w *Part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.s.watches(w) {
		return
	}
	if p.watchers == nil {
		p.watchers = map[*Part]bool{}
	}
	p.watchers[w] = true
	p.log.Watch(w)
}

func (p *partition) unwatch(w *Part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers[w] {
		delete(p.watchers, w)
		p.log.Unwatch(w)
	}
}

// release gives back what a session has acquired.
func (p *partition) release(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window.release(s, p.m.deliveries(p.group.id)) {
		p.changed(true)
		p.wake()
	}
}

// acknowledge does what a session says of what it has acquired.
func (p *partition) acknowledge(s *Session, acks []Ack) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return kerr.InvalidRecordState
	}
	if err := p.begin(); err != nil {
		return err
	}
	kept := &lock{s, time.Now().Add(p.m.LockDuration(p.group.id))}
	if err := p.window.acknowledge(acks, s, p.m.deliveries(p.group.id), kept); err != nil {
		return err
	}
	p.changed(true)
	p.wake()
	return nil
}

// retire reports whether everything of a partition that nobody uses is on disk,
// and ends it then.
func (p *partition) retire() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m.saver.holds(p) {
		return false
	}
	p.end()
	return true
}

func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *partition) end() {
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.m.inFlight.Add(-p.held)
	p.held = 0
}
