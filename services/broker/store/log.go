// Package store is the partition log: record batches kept verbatim in
// segments with Kafka's own layout, indexed, recovered after a power cut to
// the last whole batch, and readable only once they are durable. See
// docs/formats/broker-log.md.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
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
	// ErrFiles: the process has as many files open as it may; try again.
	ErrFiles = errors.New("too many files are open")
	// ErrOutOfRange: the offset is before the start or after the end.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("log is closed")
)

// DefaultSegmentBytes bounds what has to be read after a crash.
const DefaultSegmentBytes = 64 << 20

// Options of a log. Syncer is required.
type Options struct {
	Settings Settings // changed at run time by Configure
	Epoch    int32    // leader epoch of this start
	Linger   time.Duration
	Syncer   *Syncer
	Now      func() time.Time // default time.Now
	// Age is how long, in ms, brokers have been running on this data
	// directory; it never jumps. Default: each log counts for itself.
	Age func() int64
	// Settled sees to it that all files were synced (vfs.AllSyncer) after the
	// broker before this one ended, and says whether that was possible.
	// Default: no, and each log that has to be read syncs its own.
	Settled func() bool
	// Lazy leaves recovery to the first who uses the log; see Load.
	Lazy bool
	// CompactMap is the memory that compaction takes to remember keys, in
	// bytes; default 4 MiB.
	CompactMap int
	Log        *slog.Logger // default: discarded
}

// Log is one partition. Safe for concurrent use.
type Log struct {
	fsys vfs.FS
	dir  string
	opts Options

	recompress atomic.Pointer[recompressor] // nil: batches stay as they come

	mu     loading
	set    Settings
	sealed []segment
	act    active
	start  int64 // first offset; what lies before is deleted
	hw     int64 // high watermark: what lies before may be read
	hwPos  int64 // position of hw in the active segment
	synced int64 // what lies before is durable; below hw only with WriteIsEnough
	leo    int64 // log end: the next record's offset
	prods  producers
	txns   txns
	// transactional: there are or were transactional batches.
	transactional bool
	marked        int64 // offset after the last transaction marker
	age           int64 // ms that brokers have been running on the log; see tick
	ticked        time.Time
	appendMs      int64 // newest log append time
	epochs        epochs
	saved         checkpoint // as on disk
	err           error      // why the log is read-only
	broken        error      // why it could not be recovered
	closed        bool
	keep          keeping // see kept.go

	work    sync.Mutex                         // held while housekeeping reads or rewrites segments
	endWork atomic.Pointer[context.CancelFunc] // of the housekeeping under way
	stop    atomic.Bool                        // set by Close: housekeeping ends

	// See save.go.
	private, saving, rolling bool

	// See sync.go.
	syncing, fsyncing, urgent bool
	wake                      chan struct{}
	idle                      *sync.Cond
	changed                   chan struct{}
	watchers                  []Watcher
}

// Appended says where a batch lies.
type Appended struct {
	Base      int64 // offset of its first record
	Next      int64 // offset after its last record; durable when Wait(Next) returns
	Start     int64 // log start
	AppendMs  int64 // time of the append where it is the records' timestamp, else -1
	Duplicate bool  // the batch was there already
}

// Append writes one batch that Check has passed, h being its header. It
// patches b in place. The records are durable when Wait(Next) returns; urgent
// says that somebody is going to wait. A transactional batch is taken on
// trust: the caller has asked the transaction coordinator.
func (l *Log) Append(b []byte, h Header, urgent bool) (Appended, error) {
	if r := l.recompress.Load(); r != nil {
		var err error
		if b, h, err = r.batch(b, h); err != nil {
			return Appended{}, err
		}
	}
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
		return Appended{Base: dup.Base, Next: dup.Base + int64(dup.Count), Start: l.start, AppendMs: -1, Duplicate: true}, nil
	}
	ms, err := l.stamp(b, &h)
	if err != nil {
		return Appended{}, err
	}
	a, err := l.put(b, h, urgent)
	a.AppendMs = ms
	return a, err
}

// put writes a batch to the log's end.
func (l *Log) put(b []byte, h Header, urgent bool) (Appended, error) {
	h.BaseOffset, h.LeaderEpoch = l.leo, l.opts.Epoch
	patch(b, h.BaseOffset, h.LeaderEpoch)
	l.reserve(int64(len(b)))
	if _, err := l.act.file.WriteAt(b, l.act.size); err != nil {
		return Appended{}, l.writeFailed(err)
	}
	l.note(h, b)
	if l.writeIsEnough() {
		l.advance(l.leo, l.act.size)
		urgent = false // nobody waits for the sync
	}
	l.kick(urgent)
	return Appended{Base: h.BaseOffset, Next: l.leo, Start: l.start, AppendMs: -1}, nil
}

// note accounts for batch b that lies at the end of the active segment.
func (l *Log) note(h Header, b []byte) {
	l.aged()
	l.act.add(h, l.act.rel(h.LastOffset()), l.act.size)
	l.act.size += h.Size()
	if h.ProducerID >= 0 {
		c, coordinator := controlOf(h, b)
		l.noteProducer(h, c, coordinator)
	}
	if h.Attributes&attrLogAppend != 0 {
		l.appendMs = max(l.appendMs, h.MaxTimestamp)
	}
	l.epochs = l.epochs.begin(h.LeaderEpoch, h.BaseOffset)
	l.leo = h.LastOffset() + 1
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
	// Damaged are the places that cannot be read any more.
	Damaged []Damage
}

// Stats returns the log's present state.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Start: l.start, HighWatermark: l.hw, End: l.leo, Bytes: l.act.size, Segments: len(l.sealed) + 1, Err: l.err, Damaged: l.keep.damaged}
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

// working begins housekeeping, which ends with ctx and is told by it when the
// log is closed.
func (l *Log) working(ctx context.Context) (_ context.Context, done func()) {
	l.work.Lock()
	ctx, cancel := context.WithCancel(ctx)
	l.endWork.Store(&cancel)
	if l.stop.Load() {
		cancel()
	}
	return ctx, func() {
		cancel()
		l.work.Unlock()
	}
}

// stopWork lets housekeeping end at once, whatever its pace.
func (l *Log) stopWork() {
	l.stop.Store(true)
	if cancel := l.endWork.Load(); cancel != nil {
		(*cancel)()
	}
}

// Close syncs the rest, notes where the log ends so that the next start need
// not read it, and closes the files.
func (l *Log) Close() error {
	l.stopWork()
	l.work.Lock()
	defer l.work.Unlock()
	loaded := l.mu.lockLoaded()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if !loaded { // nothing has changed
		l.closed = true
		return nil
	}
	l.urgent = true
	l.awaitDurable()
	l.closed = true
	l.wakeAll()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	for l.syncing || l.fsyncing || l.saving { // the file must not be closed under a sync
		l.idle.Wait()
	}
	defer l.act.file.release()
	if l.act.reserved > l.act.size {
		l.act.unreserve()
	}
	l.closeMark()
	if l.err != nil {
		return nil // it was reported when it happened; the next start recovers
	}
	return l.saveEnd()
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
