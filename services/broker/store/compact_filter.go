package store

import "slices"

// verdict is what compaction does to a batch.
type verdict int8

const (
	keepWhole verdict = iota
	keepSome          // the records in cleaner.some
	keepEmpty         // the header: its producer's sequence must be known
	dropWhole
)

// cleaner decides about the batches of one pass, which goes through the log
// from its start in order.
type cleaner struct {
	keys *keyReader
	// newest are the newest offsets of the keys in [from, upTo), which are the
	// offsets not compacted before.
	newest     *offsetMap
	from, upTo int64
	// old: tombstones and markers before this offset have been met so long ago
	// that every consumer has seen them.
	old int64
	// last are the base offsets of each producer's last batch, and its epoch.
	last map[int64]lastBatch

	aborted map[int64][]AbortedTxn // in the segment at hand, by producer id
	// pending are producers with transactional records before the present
	// position and after their last marker: those of the next marker.
	pending map[int64]bool

	passing    int64 // new tombstones and markers, which stay for now
	unreadable int64 // batches that cannot be decompressed: they stay

	some  []uint64 // bits of the records to keep
	maxMs int64    // largest timestamp of those
}

type lastBatch struct {
	base  int64 // -1: none in this epoch
	epoch int16
}

// decide tells what becomes of a batch, and how many records of it stay.
func (c *cleaner) decide(b *stored) (verdict, int32) {
	if b.Attributes&attrControl != 0 {
		return c.marker(b)
	}
	gone := dropWhole
	if l, ok := c.last[b.ProducerID]; ok && l.base == b.BaseOffset {
		gone = keepEmpty
	}
	if b.Transactional() {
		c.pending[b.ProducerID] = true
		if c.isAborted(b) {
			return gone, 0
		}
	}
	n, err := c.records(b)
	switch {
	case err != nil:
		// Nobody can read it, and nobody can say that it may go.
		c.unreadable++
		return keepWhole, b.Records
	case n == b.Records && n > 0:
		return keepWhole, n
	case n > 0:
		return keepSome, n
	}
	return gone, 0
}

// marker keeps the end of a transaction until its records are gone and every
// consumer that read some of them has had time to read it.
func (c *cleaner) marker(b *stored) (verdict, int32) {
	held := c.pending[b.ProducerID]
	delete(c.pending, b.ProducerID)
	l, known := c.last[b.ProducerID]
	switch {
	case held, known && l.base < 0 && l.epoch == b.ProducerEpoch:
		return keepWhole, b.Records
	case b.BaseOffset >= c.old:
		c.pass(b.BaseOffset)
		return keepWhole, b.Records
	}
	return dropWhole, 0
}

func (c *cleaner) isAborted(b *stored) bool {
	return slices.ContainsFunc(c.aborted[b.ProducerID], func(t AbortedTxn) bool {
		return t.FirstOffset <= b.BaseOffset && b.BaseOffset <= t.LastOffset
	})
}

// records notes in some which records stay, and counts them.
func (c *cleaner) records(b *stored) (n int32, err error) {
	c.some, c.maxMs = c.some[:0], noTimestamp
	passing := c.passing
	err = c.keys.each(b.Header, b.records(), func(i int, rec keyed) bool {
		if i%64 == 0 {
			c.some = append(c.some, 0)
		}
		if c.stays(b.BaseOffset+rec.deltaOffset, rec) {
			c.some[i/64] |= 1 << (i % 64)
			c.maxMs = max(c.maxMs, b.FirstTimestamp+rec.deltaMs)
			n++
		}
		return false
	})
	if err != nil {
		c.passing = passing
	}
	return n, err
}

// stays decides about one record. Records without a key go, as in Kafka: a
// compacted topic does not take them.
func (c *cleaner) stays(offset int64, rec keyed) bool {
	switch {
	case !rec.hasKey || c.newest.newest(rec.key) > offset:
		return false
	case !rec.tombstone:
		return true
	case offset < c.old:
		return false
	}
	c.pass(offset)
	return true
}

// pass counts what stays for now and was met for the first time.
func (c *cleaner) pass(offset int64) {
	if offset >= c.from {
		c.passing++
	}
}

func (c *cleaner) stay(i int) bool { return c.some[i/64]&(1<<(i%64)) != 0 }

// setAborted takes the aborted transactions of the next segment.
func (c *cleaner) setAborted(txns []AbortedTxn) {
	c.aborted = map[int64][]AbortedTxn{}
	for _, t := range txns {
		c.aborted[t.ProducerID] = append(c.aborted[t.ProducerID], t)
	}
}
