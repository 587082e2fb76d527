package server

import (
	"sync"
	"time"
)

// freeList keeps large buffers that are not in use. A sync.Pool would lose
// them at each collection, and making a megabyte brings the next one nearer:
// a broker whose heap is small would make, clear and collect buffers all day.
// What was not needed for a while is let go, so an idle broker holds none.
type freeList struct {
	limit int // of bytes

	mu      sync.Mutex
	classes [poolClasses]freeClass
	bytes   int
	timer   *time.Timer // trims; nil while there is nothing
}

type freeClass struct {
	bufs [][]byte
	low  int // the fewest there were since the last trim: those were not needed
}

// trimEvery is how long a buffer may lie unused, in halves.
const trimEvery = time.Second

// get returns a buffer of a class; nil when there is none.
func (l *freeList) get(c int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.classes[c]
	n := len(f.bufs) - 1
	if n < 0 {
		return nil
	}
	b := f.bufs[n]
	f.bufs[n], f.bufs = nil, f.bufs[:n]
	f.low = min(f.low, n)
	l.bytes -= cap(b)
	return b
}

// put takes a buffer of a class, unless it has enough.
func (l *freeList) put(c int, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+cap(b) > l.limit {
		return
	}
	f := &l.classes[c]
	f.bufs = append(f.bufs, b)
	l.bytes += cap(b)
	if l.timer == nil {
		l.timer = time.AfterFunc(trimEvery, l.trim)
	}
}

func (l *freeList) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.classes {
		f := &l.classes[c]
		for range f.low {
			n := len(f.bufs) - 1
			l.bytes -= cap(f.bufs[n])
			f.bufs[n], f.bufs = nil, f.bufs[:n]
		}
		f.low = len(f.bufs)
	}
	if l.timer = nil; l.bytes > 0 {
		l.timer = time.AfterFunc(trimEvery, l.trim)
	}
}
