package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	swapFile    = "swap"
	swapKind    = "WAYSSWAP"
	swapVersion = 1
)

// swap says that a compacted segment, whole and durable under its .cleaned
// names, takes the place of others. Once it is durable the swap happens, if
// not now then at the next start; doing it twice changes nothing.
type swap struct {
	Base int64 `json:"base"`
	// Replaces are the bases of the segments that go, that of the new one
	// among them.
	Replaces []int64 `json:"replaces"`
	// Aborted: the new segment has a transaction index.
	Aborted bool `json:"aborted,omitempty"`
}

func swapName(dir string) string { return path.Join(dir, swapFile) }

func (s swap) write(fsys vfs.FS, dir string) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode swap: %v", err)
	}
	return frame.WriteFile(fsys, swapName(dir), frame.Append(frame.Header(swapKind, swapVersion), body))
}

func parseSwap(b []byte) (s swap, err error) {
	if _, err = frame.CheckHeader(b, swapKind, swapVersion); err != nil {
		return s, err
	}
	body, _, err := frame.Next(b[frame.HeaderSize:])
	if err != nil {
		return s, err
	}
	err = json.Unmarshal(body, &s)
	return s, err
}

// run puts the new files in place and removes the old. Indexes go first: one
// that knows of fewer bytes than the segment has leads to places that are not
// batches, which is noticed; the other way round would skip records.
func (s swap) run(fsys vfs.FS, dir string) error {
	seg := segment{dir: dir, base: s.Base}
	for _, name := range []string{seg.txnIndexName(), seg.indexName(), seg.timeName(), seg.logName()} {
		if err := fsys.Rename(name+cleanedExt, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !s.Aborted {
		if err := fsys.Remove(seg.txnIndexName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, base := range s.Replaces {
		if base != s.Base {
			removeSegment(fsys, segment{dir: dir, base: base, hasAborted: true})
		}
	}
	return nil
}

// end forgets a swap, durably, when all of it is durable.
func (s swap) end(fsys vfs.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	if err := fsys.Remove(swapName(dir)); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// finishSwap does what a crash has kept from being done.
func finishSwap(fsys vfs.FS, dir string) error {
	b, err := frame.ReadFile(fsys, swapName(dir))
	if err != nil {
		return fmt.Errorf("read swap: %w", err)
	}
	s, err := parseSwap(b)
	if errors.Is(err, frame.ErrNewer) {
		return fmt.Errorf("read swap: %w", err)
	}
	if err != nil { // rotten: what was not swapped stays as it was
		return s.end(fsys, dir)
	}
	if err := s.run(fsys, dir); err != nil {
		return fmt.Errorf("finish compaction: %w", err)
	}
	if err := s.note(fsys, dir); err != nil {
		return fmt.Errorf("finish compaction: %w", err)
	}
	return s.end(fsys, dir)
}

// note brings a checkpoint of before the swap up to it. What that remembers of
// the old segments, their largest timestamps and the damage in them, would be
// believed of the new one.
func (s swap) note(fsys vfs.FS, dir string) error {
	c, err := readCheckpoint(fsys, dir)
	if errors.Is(err, errNoCheckpoint) || err == nil && c.Kept == nil {
		return nil
	}
	if err != nil {
		return err
	}
	c.Kept.swapped(s)
	data, err := encodeCheckpoint(c)
	if err != nil {
		return err
	}
	return frame.WriteFile(fsys, checkpointName(dir), data)
}

// swapped puts the new segment, of which the timestamps are not known, in the
// place of those that it replaces.
func (k *kept) swapped(s swap) {
	old := func(base int64) bool { return slices.Contains(s.Replaces, base) }
	k.Damaged = slices.DeleteFunc(k.Damaged, func(d Damage) bool { return old(d.Segment) })
	var now *sealedAt
	k.Sealed = slices.DeleteFunc(k.Sealed, func(a sealedAt) bool {
		switch {
		case !old(a.Base):
			return false
		case now == nil:
			now = &sealedAt{Base: s.Base, Ms: -1, First: a.First}
		}
		now.Last = a.Last
		return true
	})
	if now != nil {
		at, _ := slices.BinarySearchFunc(k.Sealed, s.Base, func(a sealedAt, base int64) int { return cmp.Compare(a.Base, base) })
		k.Sealed = slices.Insert(k.Sealed, at, *now)
	}
}

// replace swaps the segments of a group for the one that w has written. It
// reports false when one of them has gone meanwhile.
func (l *Log) replace(group []segment, w *rewriter) (bool, error) {
	s := swap{Base: w.base, Aborted: len(w.aborted) > 0}
	for _, seg := range group {
		s.Replaces = append(s.Replaces, seg.base)
	}
	if !l.holdGroup(group) {
		return false, nil
	}
	defer l.releaseGroup()
	// The new files' names before the swap's: it must not find them missing.
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return false, fmt.Errorf("sync %s: %w", l.dir, err)
	}
	if err := s.write(l.fsys, l.dir); errors.Is(err, syscall.ENOSPC) {
		return false, fmt.Errorf("compact %s: %w", l.dir, ErrFull) // nothing has happened yet
	} else if err != nil {
		return false, l.swapFailed(err)
	}
	if err := l.swapIn(s, group, w); err != nil {
		return false, l.swapFailed(err)
	}
	if err := s.end(l.fsys, l.dir); err != nil {
		return false, l.swapFailed(err)
	}
	return true, nil
}

// holdGroup keeps the segments of a group from being trimmed.
func (l *Log) holdGroup(group []segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || !l.has(group) {
		return false
	}
	l.keep.swapping = group[len(group)-1].base + 1
	return true
}

// has reports whether the log's sealed segments are still those of the group.
func (l *Log) has(group []segment) bool {
	i, ok := l.sealedAt(group[0].base)
	if !ok || i+len(group) > len(l.sealed) {
		return false
	}
	for k, seg := range group {
		if s := l.sealed[i+k]; s.base != seg.base || s.version != seg.version {
			return false
		}
	}
	return true
}

// swapIn makes the new segment the log's, in its checkpoint too.
func (l *Log) swapIn(s swap, group []segment, w *rewriter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaitSaved()
	if err := s.run(l.fsys, l.dir); err != nil {
		return err
	}
	i, _ := l.sealedAt(w.base)
	seg := w.segment
	seg.version = l.sealed[i].version + 1
	seg.newestMs, seg.hasTime, seg.hasAborted = w.maxMs, true, s.Aborted
	seg.first, seg.last = group[0].first, group[len(group)-1].last
	sealed := append(append([]segment(nil), l.sealed[:i]...), seg)
	l.sealed = append(sealed, l.sealed[i+len(group):]...)
	l.forgetDamage(w.base, group[len(group)-1].base+1)
	return l.save(l.saved)
}

func (l *Log) releaseGroup() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep.swapping = 0
	l.dropTrimmed()
}

// swapFailed stops appends too: which names the disk holds is not known, so
// that a checkpoint could be a lie. The next start finishes the swap.
func (l *Log) swapFailed(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail(fmt.Errorf("put compacted segment in place in %s: %v", l.dir, err))
	return l.err
}
