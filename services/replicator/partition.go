package replicator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/rule"
)

// key is a source partition as one lane reads it.
type key struct {
	lane  *lane
	topic string
	num   int32
}

// partition is a source partition and how far it is carried. Fields that
// Status reads change under link.mu; only the link's loop changes them, but
// for lot, which the producer's answers change under link.mu.
type partition struct {
	key
	position              // next is -1 before it is known
	saved    position     // as committed at the destination
	mirrored position     // as committed on the box
	onBox    *remembered  // as found on the box at the start
	id       kadm.TopicID // of the source topic
	to       string       // topic at the destination
	turn     time.Time    // when something of it was carried last
	active   bool         // being fetched
	err      error        // why it stopped, until it is carried again
	fails    int
	retry    time.Time // when a stopped partition is tried again
	whole    bool      // its queue is of batches, see verbatim.go
	opened   bool      // it is carried as records since batches were refused
	until    int64     // source offset that its lots end before
	anew     bool      // it was not placed where it had been left
	rejoin   bool      // to be fetched from elsewhere, see joinAt
	fresh    bool      // to be compared with the destination before it begins
	limit    int       // records of a lot, 0 for any number: looking for a record that is refused

	pairs pairs
	read  int64         // source offset after the last queued record
	seen  int64         // source offset after the last one that went through a lot; next, but for windows
	win   *rule.Windows // nil where the lane has none
	waits time.Time     // when the first queued record was written
	queue []*kgo.Record // fetched and not yet carried, in order
	lot   lot
}

// lot is what a partition has on its way.
type lot struct {
	taken int   // records of the queue
	next  int64 // source offset after them, -1 if nothing is on its way
	dest  int64 // destination offset after the last one acknowledged, -1 if none was
	acked int64 // source offset after the last one acknowledged in order
	run   int64 // records up to there that lie side by side at both ends
	sent  flow
	err   error         // the first
	win   *rule.Windows // as it is behind the lot
	dead  []dead        // cannot be carried
	quiet bool          // nothing was taken: windows have closed since nothing comes
}

// position is what is remembered of a partition.
type position struct {
	next  int64 // source offset after the last carried record
	epoch int32 // leader epoch of that record, -1 if unknown (KIP-320)
	dest  int64 // destination offset after it, -1 if unknown
	// again is how many records from next on the destination holds already:
	// they were on their way when something broke, and are sent again. Always
	// 0 where the destination keeps the position.
	again int64
	// closed is up to where summaries of windows have been carried, in ms
	// since 1970. next is then the first record of the windows that are open.
	closed int64
	// from is where a second lane began, 0 if it rests; see newest.go.
	from int64
}

var unknown = position{next: -1, epoch: -1, dest: -1}

// take removes up to limit bytes from the queue into the lot; the first
// record always fits.
func (p *partition) take(limit int) []*kgo.Record {
	n, size := 0, 0
	for n < len(p.queue) && (p.limit == 0 || n < p.limit) && p.queue[n].Offset < p.until {
		s := sizeOf(p.queue[n])
		if n > 0 && size+s > limit {
			break
		}
		n++
		size += s
	}
	rs := p.queue[:n]
	p.lot = lot{taken: n, next: -1, dest: -1, acked: -1}
	if n > 0 {
		p.lot.next = rs[n-1].Offset + 1
	}
	return rs
}

// after is the position behind the lot, or behind what was acknowledged of it.
func (p *partition) after() position {
	at := p.position
	if p.lot.taken == 0 && !p.lot.quiet {
		return at
	}
	switch {
	case p.lot.err == nil && p.lot.win != nil:
		at.next, at.epoch, at.closed = p.lot.win.Hold(p.lot.next), -1, p.lot.win.Closed()
	case p.lot.err == nil:
		at.next, at.epoch = p.lot.next, p.queue[p.lot.taken-1].LeaderEpoch
	case p.lot.acked > at.next && p.lot.win == nil:
		at.next, at.epoch = p.lot.acked, -1
	}
	if p.lot.dest >= 0 {
		at.dest = p.lot.dest
	}
	return at
}

// move makes what after said the partition's position.
func (p *partition) move() {
	p.position = p.after()
	p.seen = p.next
	if p.lot.win != nil && p.lot.err == nil {
		p.win, p.seen = p.lot.win, p.lot.next
	}
	p.done()
}

// done drops what has been through from the queue.
func (p *partition) done() {
	n := 0
	for n < len(p.queue) && p.queue[n].Offset < p.seen {
		p.lane.bytes -= sizeOf(p.queue[n])
		n++
	}
	p.queue = p.queue[n:]
	p.waits = time.Time{}
	if len(p.queue) > 0 {
		p.waits = p.queue[0].Timestamp
	} else {
		p.queue = nil // else the records of old lots stay reachable
	}
}

// reset empties the queue.
func (p *partition) reset() {
	for _, r := range p.queue {
		p.lane.bytes -= sizeOf(r)
	}
	p.queue, p.active, p.lot, p.win = nil, false, lot{}, nil
}
