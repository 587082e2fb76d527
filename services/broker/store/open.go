package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

func (o *Options) setDefaults() {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, 1<<30)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Create makes an empty log in dir, durable with its name when it returns. It
// refuses a directory that holds records.
func Create(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	segs, err := listSegments(fsys, dir)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	for _, s := range segs {
		if s.size > 0 || s.base > 0 {
			return fmt.Errorf("create log: %s holds records of a topic that is not known any more; move it away", dir)
		}
	}
	if err := removeFiles(fsys, dir); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	f, err := fsys.Create(segment{dir: dir}.logName())
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := fsys.SyncDir(path.Dir(dir)); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return nil
}

// Open recovers the log in dir. Sealed segments are not read: recovery costs
// what was written since the last checkpoint.
func Open(fsys vfs.FS, dir string, opts Options) (*Log, error) {
	opts.setDefaults()
	l := &Log{
		fsys: fsys, dir: dir, opts: opts, prods: producers{},
		wake: make(chan struct{}, 1), watchers: map[chan struct{}]struct{}{},
	}
	l.idle = sync.NewCond(&l.mu)
	if err := l.recover(); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	l.epochs = l.epochs.begin(opts.Epoch, l.leo)
	return l, nil
}

func (l *Log) recover() error {
	segs, err := listSegments(l.fsys, l.dir)
	if err != nil {
		return err
	}
	switch l.saved, err = readCheckpoint(l.fsys, l.dir); {
	case errors.Is(err, errNoCheckpoint):
		l.saved = checkpoint{}
		if len(segs) > 0 { // read everything
			l.saved = checkpoint{Start: segs[0].base, Segment: segs[0].base, Offset: segs[0].base}
		}
	case err != nil:
		return err
	}
	l.start, l.epochs = l.saved.Start, slices.Clone(l.saved.Epochs)
	for _, p := range l.saved.Producers {
		l.prods[p.ID] = &p
	}
	tail, err := l.splitSealed(segs)
	if err != nil {
		return err
	}
	return l.recoverTail(tail)
}

// splitSealed keeps as sealed what lies before the checkpoint's segment,
// drops what lies before the log start, and returns what has to be read.
func (l *Log) splitSealed(segs []segment) (tail []segment, err error) {
	k := 0
	for k < len(segs) && segs[k].base < l.saved.Segment {
		k++
	}
	tail = segs[k:]
	if len(tail) == 0 || tail[0].base != l.saved.Segment {
		// The checkpoint's rename reached the disk and the new segment's name
		// did not; nothing had been written to it.
		made, err := l.remakeSegment()
		if err != nil {
			return nil, err
		}
		tail = append([]segment{made}, tail...)
	}
	for i, s := range segs[:k] {
		end := l.saved.Segment
		if i+1 < k {
			end = segs[i+1].base
		}
		if end <= l.start {
			removeSegment(l.fsys, s)
			continue
		}
		l.sealed = append(l.sealed, s)
	}
	first := tail[0].base
	if len(l.sealed) > 0 {
		first = l.sealed[0].base
	}
	if l.start < first {
		l.opts.Log.Error("first segments are missing; their records are lost", "dir", l.dir, "start", l.start, "first", first)
		l.start = first
	}
	return tail, nil
}

func (l *Log) remakeSegment() (segment, error) {
	if l.saved.Pos > 0 {
		l.opts.Log.Error("segment is missing; its records are lost", "dir", l.dir, "base", l.saved.Segment, "bytes", l.saved.Pos)
	}
	seg := segment{dir: l.dir, base: l.saved.Offset}
	l.saved.Segment, l.saved.Pos = seg.base, 0
	f, err := l.fsys.Create(seg.logName())
	if err != nil {
		return seg, err
	}
	if err := f.Close(); err != nil {
		return seg, err
	}
	return seg, l.fsys.SyncDir(l.dir)
}

// recoverTail reads the segments from the checkpoint on. All but the last are
// sealed; the last is where appending goes on.
func (l *Log) recoverTail(tail []segment) error {
	for i, seg := range tail {
		if err := l.recoverSegment(seg, i == 0); err != nil {
			return err
		}
		if i+1 == len(tail) {
			return nil
		}
		if next := tail[i+1]; next.base != l.leo {
			return l.setAside(tail[i+1:])
		}
		if err := l.act.write(l.fsys, l.act.segment); err != nil {
			return err
		}
		l.sealed = append(l.sealed, l.act.segment)
		l.act.file.release()
	}
	return nil
}

// setAside deals with segments that do not follow on what was recovered. An
// empty one is left from a roll that failed; one with records means that the
// segment before it was damaged after it was durable, so it is kept under
// another name for whoever wants to look.
func (l *Log) setAside(segs []segment) error {
	for _, s := range segs {
		if s.size == 0 {
			removeSegment(l.fsys, s)
			continue
		}
		lost := s.name(".log.lost")
		l.opts.Log.Error("segment does not follow on the one before it; set aside", "file", lost, "log_end", l.leo)
		if err := l.fsys.Rename(s.logName(), lost); err != nil {
			return err
		}
	}
	return l.fsys.SyncDir(l.dir)
}

// recoverSegment makes seg the active segment: index and state up to the
// checkpoint are taken from disk, the rest is read and cut at the first batch
// that is not whole.
func (l *Log) recoverSegment(seg segment, first bool) error {
	f, err := l.fsys.Open(seg.logName())
	if err != nil {
		return err
	}
	from := int64(0)
	l.act = active{segment: seg, index: &index{maxMs: -1}, file: newHandle(f)}
	l.act.size, l.leo = 0, seg.base
	if first && l.saved.Pos > 0 && seg.size >= l.saved.Pos {
		if x, err := loadIndex(l.fsys, seg, l.saved.Pos); err == nil {
			l.act.index, from = x, l.saved.Pos
			l.act.size, l.leo = from, l.saved.Offset
		}
	}
	if err := l.scan(f, from, seg.size); err != nil {
		l.act.file.release()
		return err
	}
	if err := l.settle(f, seg.size, from); err != nil {
		l.act.file.release()
		return err
	}
	l.hw, l.hwPos = l.leo, l.act.size
	return nil
}

// settle cuts the torn tail and makes durable what was kept: after a kill it
// may have been in the page cache only, and it may be read from now on.
func (l *Log) settle(f vfs.File, size, from int64) error {
	if cut := size - l.act.size; cut > 0 {
		l.opts.Log.Warn("cut the torn tail of a log", "file", l.act.logName(), "at", l.act.size, "bytes", cut, "log_end", l.leo)
		if err := f.Truncate(l.act.size); err != nil {
			return err
		}
	} else if l.act.size == from {
		return nil // nothing was written since the checkpoint
	}
	return l.opts.Syncer.sync(f)
}

// listSegments returns the segments in dir by base offset, and removes what
// an interrupted rewrite left.
func listSegments(fsys vfs.FS, dir string) ([]segment, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segs []segment
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			fsys.Remove(path.Join(dir, e.Name()))
		}
		base, ok := parseLogName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		segs = append(segs, segment{dir: dir, base: base, size: info.Size()})
	}
	return segs, nil // names are zero-padded: sorted by name is sorted by base
}

// removeSegment deletes a segment's files, the records first. What cannot be
// deleted is tried again at the next start.
func removeSegment(fsys vfs.FS, s segment) {
	for _, name := range []string{s.logName(), s.indexName(), s.timeName()} {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
