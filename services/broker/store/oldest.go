package store

// Oldest is the oldest sealed segment of a log, the first that may be given
// up for room.
type Oldest struct {
	AgeMs int64 // running time of the broker since its last record was appended
	End   int64 // offset after its last record; Trim(End) deletes it
	Bytes int64
}

// Oldest is false for a log that has nothing but the active segment, or that
// cannot be trimmed.
func (l *Log) Oldest() (Oldest, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || len(l.sealed) == 0 {
		return Oldest{}, false
	}
	s := l.sealed[0]
	return Oldest{AgeMs: l.tick() - s.last, End: l.nextBase(0), Bytes: s.size}, true
}
