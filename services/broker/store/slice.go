package store

// More reports whether there is more behind the slice that could have been
// read: it was cut by its greatest length or by the end of a segment.
func (s *Slice) More() bool { return s.more }

// Cut shortens the slice to its first n bytes.
func (s *Slice) Cut(n int64) { s.n = min(s.n, n) }

// Skip shortens the slice by its first n bytes.
func (s *Slice) Skip(n int64) {
	n = min(s.n, n)
	s.off, s.n = s.off+n, s.n-n
}

// readAhead is how much is read at once to go through batches, in bytes.
const readAhead = 16 << 10

// Batches tells each where a batch begins in the slice, with its header, until
// it returns false. The last batch may be cut; one whose header is, is not told.
func (s *Slice) Batches(each func(off int64, h Header) bool) error {
	var buf []byte // the slice from position at on
	var at int64
	for off := int64(0); off+HeaderSize <= s.n; {
		if off < at || off+HeaderSize > at+int64(len(buf)) {
			if cap(buf) == 0 {
				buf = make([]byte, readAhead)
			}
			at, buf = off, buf[:min(int64(cap(buf)), s.n-off)]
			if err := s.ReadAt(buf, at); err != nil {
				return err
			}
		}
		h, err := ParseHeader(buf[off-at:])
		if err != nil {
			return err
		}
		if !each(off, h) {
			return nil
		}
		off += h.Size()
	}
	return nil
}

// AbortedIn returns the aborted transactions that have records in s, which
// ReadCommitted returned for offset.
func (l *Log) AbortedIn(s *Slice, offset int64) ([]AbortedTxn, error) {
	l.mu.Lock()
	transactional := l.transactional
	l.mu.Unlock()
	if !transactional {
		return nil, nil
	}
	end := offset
	err := s.Batches(func(_ int64, h Header) bool {
		end = h.LastOffset() + 1
		return true
	})
	if err != nil {
		return nil, err
	}
	return l.Aborted(offset, end)
}
