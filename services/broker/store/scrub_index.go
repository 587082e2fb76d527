package store

import (
	"errors"
	"fmt"

	"github.com/waysideos/wayside/services/broker/frame"
)

// scrubbedIndex compares a sealed segment's index files with its batches as
// they are met. It need not be what add makes of the batches from the start:
// each checkpoint in the middle of the segment has left an entry of its own in
// the time index. But what it says must be true, the time index must end with
// the largest timestamp, and no position may be missing.
type scrubbedIndex struct {
	index    // of the batches met
	posFile  entriesOnDisk[posEntry]
	timeFile entriesOnDisk[timeEntry]
}

// entriesOnDisk are the entries of an index file, of which the first met have
// been found to be true.
type entriesOnDisk[E comparable] struct {
	all    []E
	met    int
	broken bool // not a file of whole entries
}

func (d *entriesOnDisk[E]) meet(e E) {
	if d.met < len(d.all) && d.all[d.met] == e {
		d.met++
	}
}

// right reports whether every entry was met, of at least n.
func (d *entriesOnDisk[E]) right(n int) bool {
	return !d.broken && d.met == len(d.all) && d.met >= n
}

// indexToScrub reads the index files of a sealed segment.
func (l *Log) indexToScrub(v *view) *scrubbedIndex {
	x := &scrubbedIndex{index: index{maxMs: noTimestamp}}
	if !v.active {
		x.posFile = readEntries(l, v.seg.indexName(), posEntrySize, decodePos)
		x.timeFile = readEntries(l, v.seg.timeName(), timeEntrySize, decodeTime)
	}
	return x
}

func readEntries[E comparable](l *Log, name string, size int, decode func([]byte) E) (d entriesOnDisk[E]) {
	b, err := frame.ReadFile(l.fsys, name)
	d.broken = err != nil || len(b)%size != 0
	for ; len(b) >= size; b = b[size:] {
		d.all = append(d.all, decode(b))
	}
	return d
}

// met notes a batch at position pos. rel is its last offset - segment base.
func (x *scrubbedIndex) met(h Header, rel int32, pos int64) {
	before := x.maxMs
	x.add(h, rel, pos)
	x.posFile.meet(posEntry{rel, int32(pos)})
	if x.maxMs > before {
		x.timeFile.meet(timeEntry{x.maxMs, rel})
	}
}

// timesRight reports whether the time index may stay.
func (x *scrubbedIndex) timesRight() bool {
	n := len(x.timeFile.all)
	if n == 0 {
		return x.timeFile.right(0) && x.maxMs < 0
	}
	return x.timeFile.right(1) && x.timeFile.all[n-1].ms == x.maxMs
}

// scrubIndex replaces what is wrong of a sealed segment's index files.
func (l *Log) scrubIndex(v *view, x *scrubbedIndex) error {
	posRight, timesRight := x.posFile.right(len(x.pos)), x.timesRight()
	pos, times := x.encode()
	if !posRight {
		if err := l.replaceIndex(v, v.seg.indexName(), pos); err != nil {
			return err
		}
	}
	if !timesRight {
		if err := l.replaceIndex(v, v.seg.timeName(), times); err != nil {
			return err
		}
		l.setNewest(v.seg, x.maxMs)
	}
	if v.seg.hasAborted {
		if _, err := readAborted(l.fsys, v.seg); errors.Is(err, ErrCorrupt) {
			l.opts.Log.Error("transaction index is damaged", "err", err)
		}
	}
	return nil
}

func (l *Log) replaceIndex(v *view, name string, want []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.sealedAt(v.seg.base)
	if !ok || l.closed || l.sealed[i].version != v.seg.version {
		return nil
	}
	l.opts.Log.Warn("index does not match its segment; made anew", "file", name)
	if err := frame.Replace(l.fsys, name, want); err != nil {
		return fmt.Errorf("replace %s: %v", name, err)
	}
	return nil
}

// setNewest corrects what is known of a sealed segment's largest timestamp.
func (l *Log) setNewest(seg segment, ms int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.sealedAt(seg.base); ok && l.sealed[i].version == seg.version {
		l.sealed[i].newestMs, l.sealed[i].hasTime = ms, true
	}
}
