package store

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/waysideos/wayside/services/vfs"
)

const (
	// scanChunk is how much recovery reads at once, in bytes. Sequential reads
	// of this size are what a cold disk is good at; headers alone are slower.
	scanChunk = 256 << 10
	// maxStored bounds what a header may claim, in bytes: no topic takes so
	// large a batch.
	maxStored = 32 << 20
	// distrustAlign: the page cache may hold so much in one piece, and drops it
	// whole or not at all.
	distrustAlign = 2 << 20
)

// recovering is what is known of a segment before it is read.
type recovering struct {
	durable int64 // what lies before this position was durable once
	offset  int64 // of the batch that begins there; not less than the segment's base
	gaps    bool  // the segment may have been compacted
}

func (l *Log) recovering(seg segment, first bool, after []segment) recovering {
	r := recovering{offset: seg.base}
	if first && l.saved.Pos <= seg.size {
		r.durable, r.offset = l.saved.Pos, l.saved.Offset
	}
	if m := readMark(l.fsys, l.dir); m.segment == seg.base && m.pos <= seg.size && m.pos > r.durable {
		r.durable, r.offset = m.pos, m.offset
	}
	// An empty segment may be left from a roll that failed.
	if i := slices.IndexFunc(after, func(s segment) bool { return s.size > 0 }); i >= 0 {
		r.durable, r.offset = seg.size, after[i].base
	}
	r.gaps = l.keep.gaps && len(after) > 0 // sealed, however little follows
	return r
}

// scanBuffers are shared by the logs of a start: as garbage, those of
// thousands would double what recovery takes.
var scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanChunk); return &b }}

// scan reads whole batches from position from and notes them, up to the torn
// tail: the first that is not whole or not next where nothing was durable yet.
// Before that it is damage, which is passed over.
func (l *Log) scan(f vfs.File, from, size int64, r recovering) error {
	lent := scanBuffers.Get().(*[]byte)
	defer scanBuffers.Put(lent)
	buf := *lent
	for pos := from; pos < size; {
		if to, ok := l.passKnown(pos, size); ok {
			pos = to
			continue
		}
		end := whole(l.damagedIn(l.act.base), pos, size)
		n, err := l.readChunk(f, buf[:min(int64(len(buf)), end-pos)], pos, r)
		if err != nil {
			return fmt.Errorf("read %s at %d: %v", l.act.logName(), pos, err)
		}
		used, need := l.scanChunk(buf[:n], r)
		pos += used
		switch {
		case used > 0:
		case need > int64(len(buf)) && need <= end-pos && need <= maxStored:
			buf = make([]byte, need) // a batch longer than a chunk
			*lent = buf
		case pos >= r.durable:
			return nil
		default:
			pos = l.passDamage(f, pos, size, r)
		}
	}
	return nil
}

// readChunk reads what there is. A sector that cannot be read is an error in
// what nobody knows to be durable, where it might hold the end of the log;
// before that it is damage like any other.
func (l *Log) readChunk(f vfs.File, buf []byte, pos int64, r recovering) (int, error) {
	n, err := f.ReadAt(buf, pos)
	if err == nil || err == io.EOF {
		return n, nil
	}
	if pos+int64(len(buf)) > r.durable {
		if pos >= r.durable {
			return 0, err
		}
		buf = buf[:r.durable-pos]
	}
	return readTolerant(f, buf, pos), nil
}

// passKnown steps over damage that was found before.
func (l *Log) passKnown(pos, size int64) (int64, bool) {
	for _, d := range l.damagedIn(l.act.base) {
		if pos >= d.Pos && pos < d.End {
			l.act.size, l.leo = min(d.End, size), max(l.leo, d.To)
			return l.act.size, true
		}
	}
	return pos, false
}

// passDamage steps over damage at pos, to the next whole batch or to where it
// is not known to be damage any more.
func (l *Log) passDamage(f vfs.File, pos, size int64, r recovering) int64 {
	s := finder{f: f, limit: size, first: l.leo, below: l.act.base + 1<<31}
	at, h, ok := s.next(pos)
	d := Damage{Segment: l.act.base, Pos: pos, End: at, From: l.leo, To: h.BaseOffset}
	if !ok || at > r.durable {
		d.End, d.To = r.durable, max(l.leo, r.offset)
	}
	l.lost(d)
	l.act.size, l.leo = d.End, d.To
	return d.End
}

// keepTail copies a tail that is going to be cut, if there are whole batches
// in it. Most likely nobody was promised them; but the mark may be older than
// the last sync.
func (l *Log) keepTail(f vfs.File, size int64) {
	s := finder{f: f, limit: size, first: l.leo, below: l.act.base + 1<<31}
	if _, _, ok := s.next(l.act.size); !ok {
		return
	}
	name := segment{dir: l.dir, base: l.leo}.name(lostExt)
	l.opts.Log.Warn("the tail that is cut holds whole batches; a copy is kept", "file", name)
	l.pruneLost()
	out, err := l.fsys.Create(name)
	if err != nil {
		return
	}
	defer out.Close()
	buf := make([]byte, scanChunk)
	for pos := l.act.size; pos < size; {
		n := readTolerant(f, buf[:min(int64(len(buf)), size-pos)], pos)
		if _, err := out.WriteAt(buf[:n], pos-l.act.size); n == 0 || err != nil {
			return
		}
		pos += int64(n)
	}
}

// maxLost is how many tails are kept.
const maxLost = 4

func (l *Log) pruneLost() {
	entries, err := l.fsys.ReadDir(l.dir)
	if err != nil {
		return
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), lostExt) {
			names = append(names, e.Name())
		}
	}
	for len(names) >= maxLost {
		l.fsys.Remove(l.dir + "/" + names[0])
		names = names[1:]
	}
}

// scanChunk notes the batches at the start of b. It returns how many bytes
// they take and, when the first is longer than b, how many it needs.
func (l *Log) scanChunk(b []byte, r recovering) (used, need int64) {
	for {
		h, err := ParseHeader(b[used:])
		if err == nil && h.Size() > int64(len(b))-used {
			return used, h.Size()
		}
		if err == nil {
			h, err = checkStored(b[used:])
		}
		if err != nil || !l.follows(h, r.gaps) {
			return used, 0
		}
		h.LeaderEpoch = min(h.LeaderEpoch, l.opts.Epoch) // the checksum does not cover it
		if h.BaseOffset >= l.saved.Offset {
			l.note(h, b[used:])
		} else { // before the checkpoint: its index only was lost
			l.act.add(h, l.act.rel(h.LastOffset()), l.act.size)
			l.act.size += h.Size()
			l.leo = h.LastOffset() + 1
		}
		used += h.Size()
	}
}

// follows reports whether a batch may come next in the active segment.
func (l *Log) follows(h Header, gaps bool) bool {
	return (h.BaseOffset == l.leo || gaps && h.BaseOffset > l.leo) && h.LastOffset() >= h.BaseOffset && h.LastOffset()-l.act.base <= 1<<31-1 &&
		l.act.size+h.Size() <= 1<<31-1
}
