package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// ErrTimestamp: a producer's timestamp is too far from the broker's clock.
var ErrTimestamp = errors.New("timestamp is out of the topic's bounds")

// noTimestamp is what a producer says that sets none.
const noTimestamp = -1

// stamp sets the log append time in a batch, or holds the producer's
// timestamps to the topic's bounds. It returns the append time where that is
// the records' timestamp, else -1.
func (l *Log) stamp(b []byte, h *Header) (int64, error) {
	switch s := &l.set; {
	case s.LogAppendTime:
		h.Attributes |= attrLogAppend
		h.MaxTimestamp = l.appendTime()
		restamp(b, h)
		return h.MaxTimestamp, nil
	case bounds(s.BeforeMaxMs) || bounds(s.AfterMaxMs):
		return noTimestamp, inBounds(h, l.opts.Now().UnixMilli(), s.BeforeMaxMs, s.AfterMaxMs)
	}
	return noTimestamp, nil
}

// restamp patches attributes and largest timestamp, which the checksum covers.
func restamp(b []byte, h *Header) {
	be := binary.BigEndian
	be.PutUint16(b[21:], uint16(h.Attributes))
	be.PutUint64(b[35:], uint64(h.MaxTimestamp))
	h.CRC = crc32.Checksum(b[crcStart:], castagnoli)
	be.PutUint32(b[17:], h.CRC)
}

// appendTime is the clock, but never before what it said last: records must
// not go back in time when somebody sets it.
func (l *Log) appendTime() int64 {
	l.appendMs = max(l.appendMs, l.opts.Now().UnixMilli())
	return l.appendMs
}

// bounds reports whether a configured difference, in ms, is a limit.
func bounds(ms int64) bool { return ms > 0 && ms < math.MaxInt64 }

// inBounds checks the first and the largest timestamp, in ms: what lies
// between is the producer's word, as in the rest of the header.
func inBounds(h *Header, now, before, after int64) error {
	for _, ms := range [2]int64{h.FirstTimestamp, h.MaxTimestamp} {
		switch {
		case ms == noTimestamp:
		case bounds(before) && ms < now && uint64(now-ms) > uint64(before):
			return fmt.Errorf("%w: %d is %d ms before the broker's clock, %d are allowed", ErrTimestamp, ms, now-ms, before)
		case bounds(after) && ms > now && uint64(ms-now) > uint64(after):
			return fmt.Errorf("%w: %d is %d ms after the broker's clock, %d are allowed", ErrTimestamp, ms, ms-now, after)
		}
	}
	return nil
}
