// Package frame is the one way in which the broker writes state that is not
// records: a file header with magic and version, then length- and
// CRC-prefixed payloads. See docs/formats/broker-log.md.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderSize is the size of a file's header, in bytes.
	HeaderSize = 16
	// Overhead is what Append adds to a payload, in bytes.
	Overhead = 8
	// MaxPayload bounds one payload, in bytes; a longer claim is corruption.
	MaxPayload = 16 << 20
)

// ErrTorn says that a frame is cut short or does not match its checksum: the
// end of what was written whole.
var ErrTorn = errors.New("torn frame")

// ErrNewer says that a file was written by a later release.
var ErrNewer = errors.New("format version is newer than this release knows")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header returns the header of a file of the given kind (8 ASCII letters) and
// format version.
func Header(kind string, version byte) []byte {
	h := make([]byte, HeaderSize)
	copy(h[:8], kind)
	h[8] = version
	return h
}

// CheckHeader returns the version of a file of the given kind, at most newest.
func CheckHeader(b []byte, kind string, newest byte) (version byte, err error) {
	if len(b) < HeaderSize {
		return 0, ErrTorn
	}
	if string(b[:8]) != kind {
		return 0, fmt.Errorf("file begins with %q, want %q", b[:8], kind)
	}
	if b[8] == 0 { // no release writes it
		return 0, errors.New("version 0")
	}
	if b[8] > newest {
		return 0, fmt.Errorf("version %d, newest known %d: %w", b[8], newest, ErrNewer)
	}
	return b[8], nil
}

// Append appends payload as one frame to dst.
func Append(dst, payload []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.BigEndian.AppendUint32(dst, sum(dst[at:at+4], payload))
	return append(dst, payload...)
}

// Next splits the first frame off b. The payload aliases b. At the end of b
// it returns a nil payload and no error.
func Next(b []byte) (payload, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	if len(b) < Overhead {
		return nil, b, ErrTorn
	}
	n := binary.BigEndian.Uint32(b)
	if n > MaxPayload || int64(n) > int64(len(b)-Overhead) {
		return nil, b, ErrTorn
	}
	payload = b[Overhead : Overhead+n : Overhead+n]
	if sum(b[:4], payload) != binary.BigEndian.Uint32(b[4:]) {
		return nil, b, ErrTorn
	}
	return payload, b[Overhead+n:], nil
}

// searchBudget bounds how many bytes Find checks in all: damage that looks
// like many long frames must not keep a broker from starting.
const searchBudget = 1 << 30

// Find returns where in b the first whole frame begins that is not empty; -1
// when there is none. It is how to go on behind damage.
func Find(b []byte) int {
	budget := searchBudget
	for at := 0; at+Overhead < len(b) && budget > 0; at++ {
		n := int64(binary.BigEndian.Uint32(b[at:]))
		if n == 0 || n > MaxPayload || n > int64(len(b)-at-Overhead) {
			continue
		}
		if _, _, err := Next(b[at:]); err == nil {
			return at
		}
		budget -= int(n)
	}
	return -1
}

// sum covers the length too, so that a run of zeros is not a frame.
func sum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}
