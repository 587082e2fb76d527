package store

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/waysideos/wayside/services/vfs"
)

// segment is one file of records, <20-digit base>.log, named as in Kafka.
type segment struct {
	dir  string
	base int64
	size int64 // bytes
	// newestMs is the largest timestamp in a sealed segment; read from its
	// time index when first asked for.
	newestMs int64
	hasTime  bool
	// hasAborted: there is a transaction index, of aborted transactions.
	hasAborted bool
	// version tells a segment from the compacted one that took its place.
	version uint32
	// The log's age, in ms, at the first and the last append; see tick.
	first, last int64
}

func (s segment) name(ext string) string {
	return path.Join(s.dir, fmt.Sprintf("%020d%s", s.base, ext))
}

func (s segment) logName() string   { return s.name(".log") }
func (s segment) indexName() string { return s.name(".index") }
func (s segment) timeName() string  { return s.name(".timeindex") }

func (s segment) txnIndexName() string { return s.name(".txnindex") }

// parseLogName returns the base offset in a segment's file name.
func parseLogName(name string) (int64, bool) {
	num, ok := strings.CutSuffix(name, ".log")
	if !ok || len(num) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(num, 10, 64)
	return base, err == nil && base >= 0
}

// handle is an open segment file, shared by the log and readers. The last to
// release it closes it, so a segment may be sealed or removed under a reader.
type handle struct {
	vfs.File
	refs atomic.Int32
}

func newHandle(f vfs.File) *handle {
	h := &handle{File: f}
	h.refs.Store(1)
	return h
}

func (h *handle) retain() *handle {
	h.refs.Add(1)
	return h
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.Close()
	}
}

// active is the segment being written.
type active struct {
	segment
	*index
	file     *handle
	reserved int64 // room on the disk is kept up to here; see reserve
}

// A segment that is growing has room kept for another eighth of it: blocks that
// are there already make a write cost a quarter less CPU time, and a sync finds
// nothing to place. Small ones have none, of which a box may have thousands, and
// none has where less than a tenth of the disk, or a gibibyte, would stay free:
// nobody else can use what is kept, and the last of it is for commits.
const (
	reserveFrom  = 1 << 20
	reserveShare = 8
	spareShare   = 10
	spareMost    = 1 << 30
)

// reserve keeps room for n bytes, about to be written, and for some that will
// follow. Where that is not possible the write itself will tell.
func (l *Log) reserve(n int64) {
	a := &l.act
	end := a.size + n
	if end <= a.reserved || end < reserveFrom {
		return
	}
	a.reserved = max(end, min(end+end/reserveShare, l.set.SegmentBytes))
	if r, ok := a.file.File.(vfs.Reserver); ok && l.spare(a.reserved-a.size) {
		r.Reserve(a.size, a.reserved-a.size)
	}
}

// spare reports whether the disk can do without n bytes.
func (l *Log) spare(n int64) bool {
	disk, ok := l.fsys.(vfs.Spacer)
	if !ok {
		return false
	}
	free, total, err := disk.Space()
	return err == nil && free-n >= min(total/spareShare, spareMost)
}

// unreserve gives back what was kept and not written.
func (a *active) unreserve() {
	if r, ok := a.file.File.(vfs.Reserver); ok && a.size >= reserveFrom {
		r.Unreserve()
	}
	a.reserved = 0
}

func (a *active) rel(offset int64) int32 { return int32(offset - a.base) }

// What else may lie in a log's directory.
const (
	lostExt    = ".log.lost" // set aside by recovery; never read
	cleanedExt = ".cleaned"  // being written by compaction
)
