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

// largerClasses is how far above its class a buffer is looked for: up to four
// times as long. Requests of one client differ in length, and would each have
// a buffer made, cleared and collected.
const largerClasses = 8

// get returns a buffer of a class or of one above it; nil when there is none.
func (l *freeList) get(c int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := c; k < min(c+largerClasses+1, poolClasses); k++ {
		if b := l.take(k); b != nil {
			return b
		}
	}
	return nil
}

func (l *freeList) take(c int) []byte {
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

// put takes a buffer of a class. When there are too many, shorter ones make
// room, in whose place it can be used.
func (l *freeList) put(c int, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(b) > l.limit {
		return
	}
	for k := largeClass; k < c && l.bytes+cap(b) > l.limit; {
		if l.take(k) == nil {
			k++
		}
	}
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
