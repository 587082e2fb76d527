package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// indexInterval is how many bytes of records lie between two index entries.
const indexInterval = 4096

// Entry sizes on disk, in bytes: Kafka's own .index and .timeindex.
const (
	posEntrySize  = 8  // int32 last offset of the batch - segment base, int32 position of the batch
	timeEntrySize = 12 // int64 ms, int32 offset - segment base
)

type posEntry struct{ rel, pos int32 }

type timeEntry struct {
	ms  int64
	rel int32
}

// index is the sparse index of a segment being written. It lives in memory
// and reaches the disk when the segment is sealed or the log closed.
type index struct {
	pos   []posEntry
	times []timeEntry
	since int64 // bytes of records after the newest entry

	maxMs    int64 // largest timestamp of the segment; -1 when it has none
	maxMsRel int32 // last offset of the first batch that has it

	aborted []AbortedTxn // those whose marker lies in the segment
}

// add notes a batch at position pos. rel is its last offset - segment base.
func (x *index) add(h Header, rel int32, pos int64) {
	if x.since > indexInterval {
		x.pos = append(x.pos, posEntry{rel, int32(pos)})
		x.addTime()
		x.since = 0
	}
	x.since += h.Size()
	if h.MaxTimestamp > x.maxMs {
		x.maxMs, x.maxMsRel = h.MaxTimestamp, rel
	}
}

// addTime keeps the time index strictly rising.
func (x *index) addTime() {
	if n := len(x.times); x.maxMs >= 0 && (n == 0 || x.times[n-1].ms < x.maxMs) {
		x.times = append(x.times, timeEntry{x.maxMs, x.maxMsRel})
	}
}

func (x *index) encode() (pos, times []byte) {
	x.addTime()
	for _, e := range x.pos {
		pos = binary.BigEndian.AppendUint32(pos, uint32(e.rel))
		pos = binary.BigEndian.AppendUint32(pos, uint32(e.pos))
	}
	for _, e := range x.times {
		times = binary.BigEndian.AppendUint64(times, uint64(e.ms))
		times = binary.BigEndian.AppendUint32(times, uint32(e.rel))
	}
	return pos, times
}

func decodePos(b []byte) posEntry {
	return posEntry{int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))}
}

func decodeTime(b []byte) timeEntry {
	return timeEntry{int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[8:]))}
}

// indexFiles is what the index files of a segment are to hold.
type indexFiles struct {
	seg                 segment
	pos, times, aborted []byte
}

// files encodes the active segment's index as it is now.
func (a *active) files() indexFiles {
	pos, times := a.encode()
	x := indexFiles{seg: a.segment, pos: pos, times: times, aborted: encodeAborted(a.aborted)}
	x.seg.hasAborted = a.hasAborted || len(a.aborted) > 0
	return x
}

// write puts the index beside its segment, synced; the names are not. The
// files of an earlier stop are replaced and not overwritten: the checkpoint on
// disk still relies on them, and a short time index does not look damaged.
// The name of the transaction index is durable too: without it, or with one of
// an earlier stop, a checkpoint that calls the segment sealed would have
// aborted records served as good ones.
func (x indexFiles) write(fsys vfs.FS) error {
	if err := frame.Replace(fsys, x.seg.indexName(), x.pos); err != nil {
		return err
	}
	if x.seg.hasAborted {
		if err := frame.WriteFile(fsys, x.seg.txnIndexName(), x.aborted); err != nil {
			return err
		}
	}
	return frame.Replace(fsys, x.seg.timeName(), x.times)
}

var errIndex = errors.New("index does not match its segment")

// loadIndex reads a segment's index back. It must describe no more than size
// bytes of the segment.
func loadIndex(fsys vfs.FS, seg segment, size int64) (*index, error) {
	pos, err := frame.ReadFile(fsys, seg.indexName())
	if err != nil {
		return nil, err
	}
	times, err := frame.ReadFile(fsys, seg.timeName())
	if err != nil {
		return nil, err
	}
	x := &index{maxMs: -1}
	last := posEntry{-1, -1}
	for ; len(pos) >= posEntrySize; pos = pos[posEntrySize:] {
		e := decodePos(pos)
		if e.rel <= last.rel || e.pos <= last.pos || int64(e.pos) >= size {
			return nil, fmt.Errorf("%s: %w", seg.indexName(), errIndex)
		}
		x.pos, last = append(x.pos, e), e
	}
	x.since = size - int64(max(last.pos, 0))
	for ; len(times) >= timeEntrySize; times = times[timeEntrySize:] {
		e := decodeTime(times)
		if e.ms <= x.maxMs || e.rel < 0 {
			return nil, fmt.Errorf("%s: %w", seg.timeName(), errIndex)
		}
		x.times = append(x.times, e)
		x.maxMs, x.maxMsRel = e.ms, e.rel
	}
	if len(pos)+len(times) > 0 {
		return nil, fmt.Errorf("%s: %w", seg.indexName(), errIndex)
	}
	return x, nil
}

// floor returns the position at or before the batch that holds rel.
func floor(entries []posEntry, rel int32) int64 {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].rel > rel })
	if i == 0 {
		return 0
	}
	return int64(entries[i-1].pos)
}

// floorTime returns the offset - base from which to look for a timestamp.
func floorTime(entries []timeEntry, ms int64) int32 {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].ms > ms })
	if i == 0 {
		return 0
	}
	return entries[i-1].rel
}

// searchFile finds, by binary search in an index file, the last entry for
// which after is false. A missing index finds nothing: the caller then walks
// the segment from its start.
func searchFile(fsys vfs.FS, name string, entrySize int64, after func(entry []byte) bool) (entry []byte, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, entrySize)
	at := func(i int) bool {
		if _, e := f.ReadAt(buf, int64(i)*entrySize); e != nil && e != io.EOF {
			err = e
		}
		return err == nil && after(buf)
	}
	i := sort.Search(int(size/entrySize), at)
	if err != nil || i == 0 {
		return nil, err
	}
	_, err = f.ReadAt(buf, int64(i-1)*entrySize)
	return buf, err
}
