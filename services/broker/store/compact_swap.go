package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	return s.end(fsys, dir)
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

func (l *Log) swapIn(s swap, group []segment, w *rewriter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
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
	return nil
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
