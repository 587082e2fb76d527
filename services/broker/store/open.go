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
	"syscall"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

func (o *Options) setDefaults() {
	if o.Settled == nil {
		o.Settled = func() bool { return false }
	}
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

// HasRecords reports whether a log's folder holds records, or held some that
// are deleted, or cannot be listed. Nobody may have the log open.
func HasRecords(fsys vfs.FS, dir string) bool {
	segs, err := listSegments(fsys, dir)
	return err != nil || slices.ContainsFunc(segs, func(s segment) bool { return s.size > 0 || s.base > 0 })
}

// Open recovers the log in dir. Sealed segments are not read: recovery costs
// what was written since the last checkpoint.
func Open(fsys vfs.FS, dir string, opts Options) (*Log, error) {
	opts.setDefaults()
	l := &Log{
		fsys: fsys, dir: dir, opts: opts, prods: producers{},
		wake: make(chan struct{}, 1),
	}
	l.idle = sync.NewCond(&l.mu)
	l.configure(opts.Settings)
	l.mu.load = l.load
	if opts.Lazy {
		return l, nil
	}
	if err := l.Load(); err != nil {
		return nil, err
	}
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
		l.keep.gaps = true
	case err != nil:
		return err
	}
	known := l.saved.Kept
	l.saved.Kept = nil
	point := l.saved.Segment
	l.restore(segs)
	l.keep.gaps = l.keep.gaps || l.saved.Segment < point // everything is read
	l.recall(known, segs)
	tail, err := l.splitSealed(segs)
	if err != nil {
		return err
	}
	found := len(l.keep.damaged)
	if err := l.recoverTail(tail); err != nil {
		return err
	}
	l.forgetBehindEnd()
	if len(tail) > 1 || len(l.keep.damaged) > found {
		// Not to be read, or told of, again. Without room it will be.
		if err := l.saveHere(); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	return nil
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
		if i > 0 {
			follows, err := l.follow(seg)
			if err != nil {
				return err
			}
			if !follows {
				continue
			}
		}
		r := l.recovering(seg, i == 0, tail[i+1:])
		if err := l.recoverSegment(seg, i == 0, r); err != nil {
			return err
		}
	}
	return nil
}

// follow seals the active segment when seg may come next. An empty one that
// begins too early is left from a roll that failed. One with records there is
// beyond explanation: it is kept under another name for whoever wants to look.
// One that begins too late means that what lies between was lost.
func (l *Log) follow(seg segment) (bool, error) {
	if seg.base < l.leo {
		if seg.size == 0 {
			removeSegment(l.fsys, seg)
			return false, nil
		}
		lost := seg.name(lostExt)
		l.opts.Log.Error("segment begins before the one before it ends; set aside", "file", lost, "log_end", l.leo)
		if err := l.fsys.Rename(seg.logName(), lost); err != nil {
			return false, err
		}
		return false, l.fsys.SyncDir(l.dir)
	}
	if seg.base > l.leo && !l.keep.gaps {
		l.lost(Damage{Segment: l.act.base, Pos: l.act.size, End: l.act.size, From: l.leo, To: seg.base})
	}
	if err := l.act.files().write(l.fsys); err != nil {
		return false, err
	}
	l.sealed = append(l.sealed, l.act.seal())
	l.act.file.release()
	return true, nil
}

// lost reports damage.
func (l *Log) lost(d Damage) {
	l.opts.Log.Error("log is damaged; reading goes on behind it", "dir", l.dir, "damage", d.String())
	l.addDamage(d)
}

// recoverSegment makes seg the active segment: index and state up to the
// checkpoint are taken from disk, the rest is read and cut at the first batch
// that is not whole.
func (l *Log) recoverSegment(seg segment, first bool, r recovering) error {
	f, err := l.fsys.Open(seg.logName())
	if err != nil {
		return err
	}
	from := int64(0)
	l.act = active{segment: seg, index: &index{maxMs: -1}, file: newHandle(f)}
	l.act.size, l.leo = 0, seg.base
	if first {
		l.act.aborted = l.saved.aborted
	}
	if first && l.saved.Pos > 0 && seg.size >= l.saved.Pos {
		// A time index of an earlier stop, whose successor's name did not reach
		// the disk, would hide what is later.
		if x, err := loadIndex(l.fsys, seg, l.saved.Pos); err == nil && x.maxMs >= l.saved.MaxMs {
			x.aborted = l.act.aborted
			l.act.index, from = x, l.saved.Pos
			l.act.size, l.leo = from, l.saved.Offset
		}
	}
	if from < seg.size {
		vfs.Distrust(f, from&^(distrustAlign-1), l.opts.Settled())
	}
	if err := l.scan(f, from, seg.size, r); err != nil {
		l.act.file.release()
		return err
	}
	if err := l.settle(f, seg.size, from); err != nil {
		l.act.file.release()
		return err
	}
	l.hw, l.hwPos, l.synced = l.leo, l.act.size, l.leo
	return nil
}

// settle cuts the torn tail and makes durable what was kept: after a kill it
// may have been in the page cache only, and it may be read from now on.
func (l *Log) settle(f vfs.File, size, from int64) error {
	if cut := size - l.act.size; cut > 0 {
		l.opts.Log.Warn("cut the torn tail of a log", "file", l.act.logName(), "at", l.act.size, "bytes", cut, "log_end", l.leo)
		l.keepTail(f, size)
		if err := f.Truncate(l.act.size); err != nil {
			return err
		}
	} else if l.act.size == from {
		return nil // nothing was written since the checkpoint
	} else if l.opts.Settled() {
		return vfs.Settle(f, l.act.size, true)
	}
	return vfs.Settle(f, l.act.size, false)
}

// listSegments returns the segments in dir by base offset, and removes what
// an interrupted rewrite left.
func listSegments(fsys vfs.FS, dir string) ([]segment, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == swapFile }) {
		if err := finishSwap(fsys, dir); err != nil {
			return nil, err
		}
		if entries, err = fsys.ReadDir(dir); err != nil {
			return nil, err
		}
	}
	var segs []segment
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") || strings.HasSuffix(e.Name(), cleanedExt) {
			fsys.Remove(path.Join(dir, e.Name()))
		}
		base, ok := parseLogName(e.Name())
		if n := len(segs); !ok {
			if n > 0 && path.Join(dir, e.Name()) == segs[n-1].txnIndexName() {
				segs[n-1].hasAborted = true
			}
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
	names := []string{s.logName(), s.indexName(), s.timeName()}
	if s.hasAborted {
		names = append(names, s.txnIndexName())
	}
	for _, name := range names {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
