package store

import (
	"fmt"
	"io"

	"github.com/waysideos/wayside/services/vfs"
)

// scanChunk is how much recovery reads at once, in bytes. Sequential reads of
// this size are what a cold disk is good at; headers alone are slower.
const scanChunk = 1 << 20

// scan reads whole batches from position from and notes them, up to the first
// that is torn, corrupt or out of order.
func (l *Log) scan(f vfs.File, from, size int64) error {
	buf := make([]byte, 0, min(scanChunk, size-from))
	for pos := from; pos < size; {
		n, err := readChunk(f, buf[:cap(buf)], pos, size)
		if err != nil {
			return fmt.Errorf("read %s at %d: %v", l.act.logName(), pos, err)
		}
		used, need := l.scanChunk(buf[:n])
		pos += used
		switch {
		case used > 0:
		case need > int64(cap(buf)) && need <= size-pos:
			buf = make([]byte, 0, need) // a batch longer than a chunk
		default:
			return nil
		}
	}
	return nil
}

func readChunk(f vfs.File, buf []byte, pos, size int64) (int, error) {
	buf = buf[:min(int64(len(buf)), size-pos)]
	n, err := f.ReadAt(buf, pos)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// scanChunk notes the batches at the start of b. It returns how many bytes
// they take and, when the first is longer than b, how many it needs.
func (l *Log) scanChunk(b []byte) (used, need int64) {
	for {
		h, err := ParseHeader(b[used:])
		if err == nil && h.Size() > int64(len(b))-used {
			return used, h.Size()
		}
		if err == nil {
			h, err = checkStored(b[used:])
		}
		if err != nil || !l.follows(h) {
			return used, 0
		}
		if h.BaseOffset >= l.saved.Offset {
			l.note(h)
		} else { // before the checkpoint: its index only was lost
			l.act.add(h, l.act.rel(h.LastOffset()), l.act.size)
			l.act.size += h.Size()
			l.leo = h.LastOffset() + 1
		}
		used += h.Size()
	}
}

// follows reports whether a batch may come next in the active segment.
func (l *Log) follows(h Header) bool {
	return h.BaseOffset == l.leo && h.LastOffset() >= h.BaseOffset && h.LastOffset()-l.act.base <= 1<<31-1 &&
		l.act.size+h.Size() <= 1<<31-1
}
