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
