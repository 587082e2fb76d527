package wire

import (
	"slices"
	"time"

	"github.com/klauspost/reedsolomon"
)

// What a receiver holds at most of blocks that are not whole yet.
const (
	maxPending      = 64
	maxPendingBytes = 8 << 20
)

// silence of a sender is longer than that: it tells its position each second.
const silence = 10 * time.Second

// Unpacker makes records of datagrams, in order. It is not for concurrent use.
type Unpacker struct {
	// Record takes a record; Position is told what the sender has taken.
	Record   func(Record)
	Position func(topic string, partition int32, offset int64)
	// Patience is how long a block that lacks datagrams may hold up the next
	// whole one.
	Patience time.Duration
	Key      []byte

	Stats Stats

	stream  uint64
	started bool
	heard   time.Time // when the run under way was heard last
	next    uint64    // block
	pending map[uint64]*block
	held    int    // bytes of pending
	partial []byte // of a record that goes on in the next block
	skip    bool   // until a record starts: a block was lost
	codes   map[[2]int]reedsolomon.Encoder
}

// Stats count since the Unpacker was made.
type Stats struct {
	Datagrams, Bad, Late int64
	Blocks, Repaired     int64 // delivered; of them with lost datagrams
	LostBlocks           int64
	Streams              int64 // runs of the sender
}

// block is one that datagrams have come of.
type block struct {
	header
	shards [][]byte
	have   int
	whole  time.Time // when enough were there
}

// Datagram takes one; the error says why it is of no use.
func (u *Unpacker) Datagram(b []byte, now time.Time) error {
	u.Stats.Datagrams++
	h, shard, err := open(b, u.Key)
	if err != nil {
		u.Stats.Bad++
		return err
	}
	// A run that began earlier is over, unless the later one is silent: then
	// the sender's clock was set back.
	if !u.started || h.stream > u.stream || (h.stream < u.stream && now.Sub(u.heard) > silence) {
		u.begin(h)
	}
	if h.stream != u.stream || h.block < u.next {
		u.Stats.Late++
		return nil
	}
	u.heard = now
	u.store(h, shard, now)
	u.Advance(now)
	return nil
}

// begin follows a new run of the sender. What is whole of the last one is
// still delivered.
func (u *Unpacker) begin(h header) {
	u.finish()
	u.Stats.Streams++
	u.started, u.stream, u.next = true, h.stream, 0
	if u.Stats.Streams == 1 {
		u.next = h.block // joined while the sender was at work
	}
	u.pending, u.held = map[uint64]*block{}, 0
	u.partial, u.skip = nil, h.block > 0
}

func (u *Unpacker) store(h header, shard []byte, now time.Time) {
	b := u.pending[h.block]
	if b == nil {
		b = &block{header: h, shards: make([][]byte, h.k+h.m)}
		u.pending[h.block] = b
	}
	if b.k != h.k || b.m != h.m || b.length != h.length || b.first != h.first {
		u.Stats.Bad++ // of the same number, and another block
		return
	}
	if b.have >= b.k || b.shards[h.index] != nil {
		return
	}
	b.shards[h.index] = slices.Clone(shard)
	u.held += len(shard)
	if b.have++; b.have == b.k {
		b.whole = now
	}
}

// Advance delivers blocks that are whole and gives up on those that have held
// up others for too long. It is to be called now and then when no datagram
// comes.
func (u *Unpacker) Advance(now time.Time) {
	for {
		if b := u.pending[u.next]; b != nil && b.have >= b.k {
			u.deliver(b)
			continue
		}
		if len(u.pending) == 0 || !u.tired(now) {
			return
		}
		u.lose()
	}
}

// tired says that the next block is not waited for any more.
func (u *Unpacker) tired(now time.Time) bool {
	if len(u.pending) > maxPending || u.held > maxPendingBytes {
		return true
	}
	for n, b := range u.pending {
		if n > u.next && !b.whole.IsZero() && now.Sub(b.whole) >= u.Patience {
			return true
		}
	}
	return false
}

// lose gives up on all blocks before the first that is whole or, when none is,
// on the first that anything is there of.
func (u *Unpacker) lose() {
	to, found := uint64(0), false
	for n, b := range u.pending {
		if whole := b.have >= b.k; whole && (!found || n < to) {
			to, found = n, true
		}
	}
	if !found {
		for n := range u.pending {
			if n+1 < to || !found {
				to, found = n+1, true
			}
		}
	}
	u.Stats.LostBlocks += int64(to - u.next)
	for n := range u.pending {
		if n < to {
			u.drop(n)
		}
	}
	u.next, u.partial, u.skip = to, nil, true
}

func (u *Unpacker) drop(n uint64) {
	for _, s := range u.pending[n].shards {
		u.held -= len(s)
	}
	delete(u.pending, n)
}

// finish delivers what is whole, whatever is missing between.
func (u *Unpacker) finish() {
	for len(u.pending) > 0 {
		if b := u.pending[u.next]; b != nil && b.have >= b.k {
			u.deliver(b)
			continue
		}
		u.lose()
	}
}

func (u *Unpacker) deliver(b *block) {
	u.drop(b.block)
	u.next++
	data, err := u.join(b)
	if err != nil {
		u.Stats.LostBlocks++
		u.partial, u.skip = nil, true
		return
	}
	u.Stats.Blocks++
	u.records(data, b.first)
}

// join is a block's data, with what was lost computed from the parity.
func (u *Unpacker) join(b *block) ([]byte, error) {
	if slices.ContainsFunc(b.shards[:b.k], func(s []byte) bool { return s == nil }) {
		code, err := codeOf(&u.codes, b.k, b.m)
		if err != nil {
			return nil, err
		}
		if err := code.ReconstructData(b.shards); err != nil {
			return nil, err
		}
		u.Stats.Repaired++
	}
	data := make([]byte, 0, b.k*len(b.shards[0]))
	for _, s := range b.shards[:b.k] {
		data = append(data, s...)
	}
	return data[:b.length], nil
}

// records takes frames out of a block's data. After a loss it begins with the
// first frame that starts there.
func (u *Unpacker) records(data []byte, first int) {
	if u.skip {
		if first == noStart {
			return
		}
		data, u.skip = data[first:], false
	}
	u.partial = append(u.partial, data...)
	rest := u.partial
	for len(rest) > 0 {
		body, n := frameAt(rest)
		if n == 0 && len(rest) < MaxRecord+16 {
			break
		}
		if n <= 0 || !u.frame(body) {
			u.Stats.Bad++
			u.partial, u.skip = nil, true
			return
		}
		rest = rest[n:]
	}
	if len(rest) == 0 {
		u.partial = nil
		return
	}
	u.partial = append(u.partial[:0], rest...)
}

func (u *Unpacker) frame(body []byte) bool {
	kind, r, err := parseFrame(body)
	switch {
	case err != nil:
		return false
	case kind == frameRecord:
		u.Record(r)
	case kind == framePosition:
		u.Position(r.Topic, r.Partition, r.Offset)
	}
	return true // a kind of a later version is passed over
}
