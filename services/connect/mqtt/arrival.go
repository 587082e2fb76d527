package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// arrival is an accepted connection, which until its CONNECT has come is
// counted for how long it says nothing while it is waited for. What it waits
// for us does not count: on one slow core the handshakes of those that come
// back together after a power cut take their time. As many of them as there
// are cores are computed at once, in the order in which they come, so that the
// first are done soon.
type arrival struct {
	net.Conn
	turns chan struct{} // of a listener: has one for each that computes
	said  atomic.Bool   // CONNECT has come, or never will
	turn  bool          // it has one; only the goroutine that serves it asks

	mu     sync.Mutex
	silent time.Duration // that it was waited for, before since
	since  time.Time     // waited for from then on; zero: it is not
}

// Read implements net.Conn. A CONNECT may be waited for connectTimeout in all.
func (a *arrival) Read(b []byte) (int, error) {
	if a.said.Load() {
		return a.Conn.Read(b)
	}
	_ = a.SetReadDeadline(time.Now().Add(connectTimeout - a.quiet())) // replaced once it is connected
	a.wait(time.Now())
	a.giveTurn()
	n, err := a.Conn.Read(b)
	a.wait(time.Time{})
	a.takeTurn()
	return n, err
}

// wait begins to wait, or with a zero time ends it.
func (a *arrival) wait(since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.since.IsZero() {
		a.silent += time.Since(a.since)
	}
	a.since = since
}

// quiet is how long it was waited for.
func (a *arrival) quiet() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		return a.silent
	}
	return a.silent + time.Since(a.since)
}

func (a *arrival) takeTurn() {
	a.turns <- struct{}{}
	a.turn = true
}

// giveTurn may be called without one.
func (a *arrival) giveTurn() {
	if a.turn {
		a.turn = false
		<-a.turns
	}
}
