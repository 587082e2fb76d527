package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClasses: every length has a class that holds it and wastes little.
func TestClasses(t *testing.T) {
	for n := 1; n <= 1<<maxPool; n += 1 + n/7 {
		c := class(n)
		if size := classSize(c); size < n || n > 1<<minPool && size > n+n/4 {
			t.Errorf("%d bytes: class %d holds %d", n, c, size)
		}
		if c > 0 && classSize(c-1) >= n {
			t.Errorf("%d bytes: class %d, and the one below holds them too", n, c)
		}
	}
	if got := class(1 << maxPool); got != poolClasses-1 {
		t.Errorf("the largest class is %d, want %d", got, poolClasses-1)
	}
}

// TestFreeList: what is in use comes back, what is not needed is let go.
func TestFreeList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(16 << 20)
		a, b := m.get(1<<20), m.get(1<<20)
		m.put(a)
		m.put(b)
		for range 10 {
			time.Sleep(trimEvery)
			synctest.Wait()
			if c := m.get(1 << 20); &c[0] != &a[0] && &c[0] != &b[0] {
				t.Fatal("a new buffer was made")
			} else {
				m.put(c)
			}
		}
		if got := m.free.bytes; got != cap(a) {
			t.Errorf("%d bytes are kept for one user of %d", got, cap(a))
		}
		time.Sleep(3 * trimEvery)
		synctest.Wait()
		if got := m.free.bytes; got != 0 {
			t.Errorf("%d bytes are kept by an idle broker", got)
		}
		for range 20 {
			m.put(make([]byte, classSize(class(1<<20))))
		}
		if got := m.free.bytes; got > m.free.limit {
			t.Errorf("%d bytes are kept, at most %d are allowed", got, m.free.limit)
		}
	})
}

// TestLongerBuffer: a free buffer serves shorter requests too, is counted as
// long as it is, and not taken when there is no room for that.
func TestLongerBuffer(t *testing.T) {
	m := newMemory(32 << 20)
	long := m.get(5 << 20)
	m.put(long)
	hold := func(from *budget, n int) *holding {
		h := &holding{m: m, from: from, pooled: true}
		var ok bool
		if h.bytes, ok = from.tryAcquire(int64(roundUp(n))); !ok {
			t.Fatalf("no room for %d bytes", n)
		}
		h.take(n)
		if len(h.buf) != n {
			t.Errorf("got a buffer of %d bytes, want %d", len(h.buf), n)
		}
		return h
	}
	h := hold(newBudget(5<<20), 2<<20)
	if &h.buf[0] != &long[0] {
		t.Error("a buffer was made though a longer one was free")
	}
	if h.bytes != 5<<20 {
		t.Errorf("%d bytes are counted, want %d", h.bytes, 5<<20)
	}
	h.release()
	if h := hold(newBudget(5<<20-1), 2<<20); cap(h.buf) != 2<<20 || h.bytes != 2<<20 {
		t.Errorf("%d bytes were taken and %d counted, there was no room for more than %d", cap(h.buf), h.bytes, 2<<20)
	}
	if h := hold(newBudget(5<<20), 1<<20); cap(h.buf) != 1<<20 {
		t.Errorf("a buffer of %d bytes was taken for %d", cap(h.buf), 1<<20)
	}
}

// TestLongBufferStays: shorter buffers make room for a longer one, which serves
// in their place, but not for one that is too long itself.
func TestLongBufferStays(t *testing.T) {
	m := newMemory(32 << 20)
	var short [][]byte
	for range 8 {
		short = append(short, m.get(1<<20))
	}
	for _, b := range short {
		m.put(b)
	}
	m.put(make([]byte, classSize(class(m.free.limit+1))))
	if got := m.free.bytes; got != 8<<20 {
		t.Errorf("%d bytes are kept, want %d", got, 8<<20)
	}
	long := make([]byte, 6<<20)
	m.put(long)
	if got := m.free.bytes; got != 8<<20 {
		t.Errorf("%d bytes are kept, want the long one and two short ones", got)
	}
	if b := m.get(6 << 20); &b[0] != &long[0] {
		t.Error("the long one was not kept")
	}
}
