package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// AbortedTxn is one aborted transaction of a producer in one partition.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64 // of its first record
	LastOffset  int64 // of its abort marker
	LastStable  int64 // last stable offset once the marker was written
}

// abortedEntrySize is that of Kafka's own .txnindex: int16 version 0, then
// the four int64 of AbortedTxn. An aborted transaction is in the index of the
// segment that holds its marker.
const abortedEntrySize = 34

func encodeAborted(txns []AbortedTxn) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, len(txns)*abortedEntrySize)
	for _, t := range txns {
		b = be.AppendUint16(b, 0)
		b = be.AppendUint64(b, uint64(t.ProducerID))
		b = be.AppendUint64(b, uint64(t.FirstOffset))
		b = be.AppendUint64(b, uint64(t.LastOffset))
		b = be.AppendUint64(b, uint64(t.LastStable))
	}
	return b
}

// decodeAborted reads the index of the segment that begins at base. Unlike
// the other indexes this one is not a hint: what it says decides which
// records are served, so that all which can be checked is.
func decodeAborted(b []byte, base int64) ([]AbortedTxn, error) {
	be := binary.BigEndian
	if len(b)%abortedEntrySize != 0 {
		return nil, fmt.Errorf("%w: transaction index of %d bytes", ErrCorrupt, len(b))
	}
	txns := make([]AbortedTxn, 0, len(b)/abortedEntrySize)
	last := base - 1
	for ; len(b) > 0; b = b[abortedEntrySize:] {
		t := AbortedTxn{
			ProducerID: int64(be.Uint64(b[2:])), FirstOffset: int64(be.Uint64(b[10:])),
			LastOffset: int64(be.Uint64(b[18:])), LastStable: int64(be.Uint64(b[26:])),
		}
		if be.Uint16(b) != 0 || t.ProducerID < 0 || t.FirstOffset < 0 || t.FirstOffset >= t.LastOffset ||
			t.LastOffset <= last || t.LastStable < 0 || t.LastStable > t.LastOffset+1 {
			return nil, fmt.Errorf("%w: transaction index entry %+v", ErrCorrupt, t)
		}
		txns, last = append(txns, t), t.LastOffset
	}
	return txns, nil
}

func readAborted(fsys vfs.FS, seg segment) ([]AbortedTxn, error) {
	b, err := frame.ReadFile(fsys, seg.txnIndexName())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", seg.txnIndexName(), err)
	}
	txns, err := decodeAborted(b, seg.base)
	if err != nil {
		return nil, &CorruptError{File: seg.txnIndexName(), Offset: seg.base, Err: err}
	}
	return txns, nil
}

// loadAborted reads the aborted transactions of the checkpoint's segment.
func (l *Log) loadAborted() error {
	if l.saved.Aborted == 0 {
		return nil
	}
	txns, err := readAborted(l.fsys, segment{dir: l.dir, base: l.saved.Segment})
	if err != nil {
		return err
	}
	if len(txns) < l.saved.Aborted || txns[l.saved.Aborted-1].LastOffset >= l.saved.Offset {
		return fmt.Errorf("%w: checkpoint counts %d aborted transactions, index has %d", ErrCorrupt, l.saved.Aborted, len(txns))
	}
	l.saved.aborted = slices.Clip(txns[:l.saved.Aborted])
	return nil
}

// Aborted returns the aborted transactions that have records from offset from
// on and below to, which must not be above the last stable offset.
func (l *Log) Aborted(from, to int64) ([]AbortedTxn, error) {
	segs, act := l.abortedAfter(from)
	var out []AbortedTxn
	for _, seg := range segs {
		txns, err := readAborted(l.fsys, seg)
		if err != nil {
			if !l.holds(seg) {
				return l.Aborted(from, to) // deleted or merged into another meanwhile
			}
			return nil, err
		}
		var done bool
		if out, done = overlapping(out, txns, from, to); done {
			return out, nil
		}
	}
	out, _ = overlapping(out, act, from, to)
	return out, nil
}

// abortedAfter returns the sealed segments that have a transaction index, from
// the one that holds offset on, and the active segment's index.
func (l *Log) abortedAfter(offset int64) (segs []segment, act []AbortedTxn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.transactional {
		return nil, nil
	}
	i := sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].base > offset }) - 1
	for _, s := range l.sealed[max(i, 0):] {
		if s.hasAborted {
			segs = append(segs, s)
		}
	}
	return segs, l.act.aborted
}

// holds reports whether a sealed segment is still part of the log, and has not
// been compacted meanwhile.
func (l *Log) holds(seg segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.sealed, func(s segment) bool { return s.base == seg.base && s.version == seg.version })
}

// overlapping appends the transactions that have records in [from, to). It is
// done when whatever began before to had ended by then.
func overlapping(out, txns []AbortedTxn, from, to int64) (_ []AbortedTxn, done bool) {
	for _, t := range txns {
		if t.LastOffset >= from && t.FirstOffset < to {
			out = append(out, t)
		}
		if t.LastStable >= to {
			return out, true
		}
	}
	return out, false
}
