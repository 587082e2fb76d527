package server

import (
	"errors"
	"math/bits"
	"sync"
	"time"
)

// memory bounds what all requests together hold. Records and everything else
// have a budget each, so that heartbeats never wait behind records. What a
// request takes once it is decoded has a third, held until it is answered.
type memory struct {
	records, control, decoded *budget
	large                     *budget // records of requests longer than largeRequest
	tiny                      *budget // records of requests up to tinyRequest
	strangers                 *budget // see strangerMemory
	pools                     [largeClass]sync.Pool
	free                      freeList
}

// How long a client that is sending a request may be behind minSpeed while
// others wait for the memory that it holds: so long that all who wait have
// their turn within lineTime, should everybody hold it back.
const (
	stallMost  = 3 * time.Second
	stallLeast = 500 * time.Millisecond
	lineTime   = 12 * time.Second
)

// stall is that time now; false while nobody waits.
func (b *budget) stall() (time.Duration, bool) {
	b.mu.Lock()
	line := b.want
	b.mu.Unlock()
	if line == 0 {
		return 0, false
	}
	turns := float64(line) / float64(b.size)
	return min(max(time.Duration(float64(lineTime)/turns), stallLeast), stallMost), true
}

func newMemory(n int64) *memory {
	return &memory{
		records: newBudget(n / 2), large: newBudget(n / 2), tiny: newBudget(n / 4),
		control: newBudget(n / 4), decoded: newBudget(n / 4), strangers: newBudget(strangerMemory),
		free: freeList{limit: int(n / 4)},
	}
}

// Whoever waits for memory waits in a line (line.go), and clients that claim
// much and send nothing can make it long. So requests with records have three lines, by
// how long they are: what an ordinary client sends never waits behind those.
const (
	largeRequest = 2 << 20 // above what max.message.bytes lets through by default
	tinyRequest  = 4 << 10
)

func (m *memory) forRecords(size int64) *budget {
	switch {
	case size > largeRequest:
		return m.large
	case size <= tinyRequest:
		return m.tiny
	}
	return m.records
}

// holding is the memory of one request.
type holding struct {
	m      *memory
	buf    []byte
	pooled bool // nothing of the request is kept once it is handled
	from   *budget
	bytes  int64 // of from
	more   int64 // of decoded
}

// take makes the buffer, for whose n bytes there is room. A longer one that
// happens to be free is taken when there is room for it too.
func (h *holding) take(n int) {
	if !h.pooled {
		h.buf = make([]byte, n)
		return
	}
	h.buf = h.m.get(n)
	more := int64(cap(h.buf) - roundUp(n))
	if more <= 0 {
		return
	}
	taken, ok := h.from.tryAcquire(more)
	if !ok {
		h.m.put(h.buf)
		h.buf = make([]byte, n, roundUp(n))
		return
	}
	h.bytes += taken
}

// freely is what a decoded request may take without being counted.
const freely = 16 << 10

var errBusy = errors.New("the memory for large requests is in use")

// decoding accounts for a request that decodes to n bytes more than it has.
// Its bytes go to that account, because it may wait long to be answered. A
// large one is refused rather than waited for, because it holds up small ones.
func (h *holding) decoding(n int64) error {
	if n += h.bytes; n > freely {
		var ok bool
		if n, ok = h.m.decoded.tryAcquire(n); !ok {
			return errBusy
		}
		h.more = n
	}
	h.from.release(h.bytes)
	h.bytes = 0
	return nil
}

func (h *holding) release() {
	h.from.release(h.bytes)
	h.m.decoded.release(h.more)
	h.bytes, h.more = 0, 0
	if h.pooled {
		h.m.put(h.buf)
	}
	h.buf = nil
}

// Buffers are pooled in steps of a quarter of a power of two, so that at most
// a fifth of one is unused; longer ones are left to the collector. The
// collector empties the pools of small ones, so an idle broker holds none.
const (
	minPool     = 10 // 1 KiB
	maxPool     = 25 // 32 MiB
	poolClasses = 4*(maxPool-minPool) + 1
	largePool   = 15 // 32 KiB, from which on they are in the free list
	largeClass  = 4 * (largePool - minPool)
)

// class is the number of the smallest pool whose buffers hold n bytes.
func class(n int) int {
	if n <= 1<<minPool {
		return 0
	}
	k := bits.Len(uint(n-1)) - 1 // 2^k < n <= 2^(k+1)
	quarter := (n - 1 - 1<<k) >> (k - 2)
	return 4*(k-minPool) + quarter + 1
}

// classSize is the length of that pool's buffers.
func classSize(c int) int {
	if c == 0 {
		return 1 << minPool
	}
	k := (c-1)/4 + minPool
	return 1<<k + ((c-1)%4+1)<<(k-2)
}

// roundUp is what a buffer of n bytes really takes.
func roundUp(n int) int {
	if c := class(n); c < poolClasses {
		return classSize(c)
	}
	return n
}

func (m *memory) get(n int) []byte {
	c := class(n)
	switch {
	case c >= poolClasses:
		return make([]byte, n)
	case c >= largeClass:
		if b := m.free.get(c); b != nil {
			return b[:n]
		}
	default:
		if p, ok := m.pools[c].Get().(*[]byte); ok {
			return (*p)[:n]
		}
	}
	return make([]byte, n, classSize(c))
}

func (m *memory) put(b []byte) {
	c := class(cap(b))
	if c >= poolClasses || cap(b) != classSize(c) {
		return
	}
	b = b[:cap(b)]
	if c >= largeClass {
		m.free.put(c, b)
		return
	}
	m.pools[c].Put(&b)
}
