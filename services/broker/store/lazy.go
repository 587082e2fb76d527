package store

import (
	"fmt"
	"sync"
)

// loading is the mutex of a log that is recovered by whoever locks it first:
// among thousands of logs the one that is asked for need not wait for the
// others.
type loading struct {
	sync.Mutex
	load func() // nil when that has been done
}

// Lock locks m and sees to it that the log is recovered.
func (m *loading) Lock() {
	m.Mutex.Lock()
	if load := m.load; load != nil {
		m.load = nil
		load()
	}
}

// lockLoaded locks m without recovering the log; false says that it is not
// recovered, and never will be.
func (m *loading) lockLoaded() bool {
	m.Mutex.Lock()
	loaded := m.load == nil
	m.load = nil
	return loaded
}

// load recovers the log. When that fails the log is as good as closed.
func (l *Log) load() {
	l.private = true
	err := l.recover()
	l.private = false
	if err != nil {
		l.broken = fmt.Errorf("open log %s: %w", l.dir, err)
		l.err, l.closed = fmt.Errorf("%w: %v", ErrReadOnly, l.broken), true
		return
	}
	l.epochs = l.epochs.begin(l.opts.Epoch, l.leo)
}

// Load recovers a log that was opened with Options.Lazy, if nobody has used it
// yet, and returns what is wrong with it.
func (l *Log) Load() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}
