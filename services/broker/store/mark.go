package store

import (
	"encoding/binary"
	"path"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	markKind    = "WAYSMARK"
	markVersion = 1
	markPayload = 24
)

// mark says that everything before a position was durable once. It is written
// after each sync and never synced itself: whenever it reaches the disk it is
// true, and it fits one sector. Recovery tells by it what must be damage from
// what may be a torn tail, which nobody was promised.
type mark struct{ segment, pos, offset int64 }

func markName(dir string) string { return path.Join(dir, "mark") }

func (m mark) encode() []byte {
	be := binary.BigEndian
	p := be.AppendUint64(nil, uint64(m.segment))
	p = be.AppendUint64(p, uint64(m.pos))
	p = be.AppendUint64(p, uint64(m.offset))
	return frame.Append(frame.Header(markKind, markVersion), p)
}

// parseMark returns the zero mark, which says nothing, for whatever is none.
func parseMark(b []byte) mark {
	if _, err := frame.CheckHeader(b, markKind, markVersion); err != nil {
		return mark{}
	}
	p, _, err := frame.Next(b[frame.HeaderSize:])
	if err != nil || len(p) != markPayload {
		return mark{}
	}
	be := binary.BigEndian
	m := mark{int64(be.Uint64(p)), int64(be.Uint64(p[8:])), int64(be.Uint64(p[16:]))}
	if m.segment < 0 || m.pos < 0 || m.offset < m.segment {
		return mark{}
	}
	return m
}

func readMark(fsys vfs.FS, dir string) mark {
	b, err := frame.ReadFile(fsys, markName(dir))
	if err != nil {
		return mark{}
	}
	return parseMark(b)
}

// writeMark is called between syncs, by one goroutine at a time and without
// the log's lock. A mark that cannot be written is missed by nobody. The file
// stays open while the log is written to: thousands of logs that are not would
// hold as many files for nothing.
func (l *Log) writeMark(m mark) {
	if l.keep.mark == nil {
		f, err := l.fsys.Open(markName(l.dir))
		if err != nil {
			f, err = l.fsys.Create(markName(l.dir))
		}
		if err != nil {
			return
		}
		l.keep.mark = f
	}
	l.keep.mark.WriteAt(m.encode(), 0)
}

// closeMark is called with the log's lock, between syncs.
func (l *Log) closeMark() {
	if l.keep.mark != nil {
		l.keep.mark.Close()
		l.keep.mark = nil
	}
}
