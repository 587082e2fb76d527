// Package store is the partition log: record batches kept verbatim in
// segments with Kafka's own layout, indexed, recovered after a power cut to
// the last whole batch, and readable only once they are durable. See
// docs/formats/broker-log.md.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// What can go wrong with a log.
var (
	// ErrReadOnly: a write or sync failed before. Reading goes on.
	ErrReadOnly = errors.New("partition is read-only after a storage error")
	// ErrFull: the disk is full; try again when there is room.
	ErrFull = errors.New("disk is full")
	// ErrOutOfRange: the offset is before the start or after the end.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("log is closed")
)

// DefaultSegmentBytes bounds what has to be read after a crash.
const DefaultSegmentBytes = 64 << 20

// Options of a log. Syncer is required.
type Options struct {
	SegmentBytes int64 // default DefaultSegmentBytes; at most 1 GiB
	Epoch        int32 // leader epoch of this start
	Linger       time.Duration
	Syncer       *Syncer
	Now          func() time.Time // default time.Now
	Log          *slog.Logger     // default: discarded
}

// Log is one partition. Safe for concurrent use.
type Log struct {
	fsys vfs.FS
	dir  string
	opts Options

	mu     sync.Mutex
	sealed []segment
	act    active
	start  int64 // first offset; what lies before is deleted
	hw     int64 // high watermark: what lies before is durable, and may be read
	hwPos  int64 // position of hw in the active segment
	leo    int64 // log end: the next record's offset
	prods  producers
	epochs epochs
	saved  checkpoint // as on disk
	err    error      // why the log is read-only
	closed bool

	// See sync.go.
	syncing, fsyncing, urgent bool
	wake                      chan struct{}
	idle                      *sync.Cond
	changed                   chan struct{}
	watchers                  map[chan struct{}]struct{}
}

// Appended says where a batch lies.
type Appended struct {
	Base      int64 // offset of its first record
	Next      int64 // offset after its last record; durable when Wait(Next) returns
	Start     int64 // log start
	Duplicate bool  // the batch was there already
}

// Append writes one batch that Check has passed, h being its header. It
// patches b in place. The records are durable when Wait(Next) returns; urgent
// says that somebody is going to wait.
func (l *Log) Append(b []byte, h Header, urgent bool) (Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.roomFor(int64(len(b)), h); err != nil {
		return Appended{}, err
	}
	dup, err := l.prods.check(h)
	if err != nil {
		return Appended{}, err
	}
	if dup != nil {
		l.kick(urgent)
		return Appended{Base: dup.Base, Next: dup.Base + int64(dup.Count), Start: l.start, Duplicate: true}, nil
	}
	h.BaseOffset, h.LeaderEpoch = l.leo, l.opts.Epoch
	patch(b, h.BaseOffset, h.LeaderEpoch)
	if _, err := l.act.file.WriteAt(b, l.act.size); err != nil {
		return Appended{}, l.writeFailed(err)
	}
	l.note(h)
	l.kick(urgent)
	return Appended{Base: h.BaseOffset, Next: l.leo, Start: l.start}, nil
}

// note accounts for a batch that lies at the end of the active segment.
func (l *Log) note(h Header) {
	l.act.add(h, l.act.rel(h.LastOffset()), l.act.size)
	l.act.size += h.Size()
	l.prods.note(h, l.opts.Now().UnixMilli())
	l.epochs = l.epochs.begin(h.LeaderEpoch, h.BaseOffset)
	l.leo = h.LastOffset() + 1
}

// roomFor rolls the active segment when the batch does not fit any more.
func (l *Log) roomFor(n int64, h Header) error {
	for {
		if l.closed {
			return ErrClosed
		}
		if l.err != nil {
			return l.err
		}
		far := l.leo+int64(h.LastOffsetDelta)-l.act.base > math.MaxInt32
		if l.act.size == 0 || (l.act.size+n <= l.opts.SegmentBytes && !far) {
			return nil
		}
		if l.hw < l.leo || l.fsyncing {
			l.syncOnce() // lets the lock go: look again
			continue
		}
		return l.roll()
	}
}

// writeFailed decides what a failed write means. A full disk has lost nothing
// once the half-written tail is cut off again.
func (l *Log) writeFailed(err error) error {
	if errors.Is(err, syscall.ENOSPC) && l.act.file.Truncate(l.act.size) == nil {
		return fmt.Errorf("write %s: %w", l.act.logName(), ErrFull)
	}
	l.fail(fmt.Errorf("write %s: %v", l.act.logName(), err))
	return l.err
}

// roll seals the active segment, whose records are all durable, and begins
// the next. Order: indexes synced, next segment made, checkpoint synced and
// renamed, then one directory sync makes all those names durable; nothing is
// written to the next segment before.
func (l *Log) roll() error {
	next := segment{dir: l.dir, base: l.leo}
	if err := l.act.write(l.fsys, l.act.segment); err != nil {
		return l.rollFailed(err)
	}
	f, err := l.fsys.Create(next.logName())
	if err != nil {
		return l.rollFailed(err)
	}
	if err := l.save(l.start, next.base, 0); err != nil {
		f.Close()
		if e := l.fsys.Remove(next.logName()); e != nil {
			err = fmt.Errorf("%v; and then: %v", err, e)
		}
		return l.rollFailed(err)
	}
	old := l.act.segment
	old.newestMs, old.hasTime = l.act.maxMs, l.act.maxMs >= 0
	l.sealed = append(l.sealed, old)
	l.act.file.release()
	l.act = active{segment: next, index: &index{maxMs: -1}, file: newHandle(f)}
	l.hwPos = 0
	return nil
}

func (l *Log) rollFailed(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("roll segment in %s: %w", l.dir, ErrFull)
	}
	l.fail(fmt.Errorf("roll segment in %s: %v", l.dir, err))
	return l.err
}

// Bounds returns the log start and the high watermark.
func (l *Log) Bounds() (start, hw int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, l.hw
}

// Stats is what a log says of itself.
type Stats struct {
	Start, HighWatermark, End int64
	Bytes                     int64 // of all segments
	Segments                  int
	Err                       error // why it is read-only
}

// Stats returns the log's present state.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Start: l.start, HighWatermark: l.hw, End: l.leo, Bytes: l.act.size, Segments: len(l.sealed) + 1, Err: l.err}
	for _, seg := range l.sealed {
		s.Bytes += seg.size
	}
	return s
}

// EpochEnd answers OffsetForLeaderEpoch; -1, -1 for an epoch of the future.
func (l *Log) EpochEnd(epoch int32) (int32, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.end(epoch, l.hw)
}

// Epoch is the leader epoch of this start.
func (l *Log) Epoch() int32 { return l.opts.Epoch }

// Close syncs the rest, notes where the log ends so that the next start need
// not read it, and closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.urgent = true
	for (l.hw < l.leo || l.fsyncing) && l.err == nil {
		l.syncOnce()
	}
	l.closed = true
	l.wakeAll()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	for l.syncing || l.fsyncing { // the file must not be closed under a sync
		l.idle.Wait()
	}
	defer l.act.file.release()
	if l.err != nil {
		return nil // it was reported when it happened; the next start recovers
	}
	return l.saveEnd()
}

// saveEnd writes index and checkpoint of the active segment if they are not
// as on disk already.
func (l *Log) saveEnd() error {
	if l.saved.Offset == l.leo && l.saved.Pos == l.act.size {
		return nil
	}
	if err := l.act.write(l.fsys, l.act.segment); err != nil {
		return fmt.Errorf("close %s: %w", l.dir, err)
	}
	if err := l.save(l.start, l.act.base, l.act.size); err != nil {
		return fmt.Errorf("close %s: %w", l.dir, err)
	}
	return nil
}

// Remove deletes a closed log's files and its directory.
func Remove(fsys vfs.FS, dir string) error {
	err := removeFiles(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := fsys.Remove(dir); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(dir))
}

func removeFiles(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
