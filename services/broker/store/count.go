package store

import (
	"bytes"
	"fmt"
)

// A compressed batch is taken as it comes: who reads it finds out how many
// records it holds. Many clients make room for as many as the header says,
// before that: 170 bytes each, so that a batch of a kilobyte that claims to hold
// eight million costs its reader a gigabyte, at each try anew.

const (
	fewRecords = 1024
	// denseRecord is how many bytes a record takes, compressed, of a batch that
	// is believed: one of readings that hardly change has some more.
	denseRecord = 8
)

// Dense reports whether a batch claims so many records that they are to be
// counted before it is taken: it costs as much as to decompress it.
func (h Header) Dense() bool {
	return h.Attributes&attrCodec != codecNone && int64(h.Records) > fewRecords+h.Size()/denseRecord
}

// CheckCount verifies that a compressed batch holds as many records as it
// claims: b is the batch, h its header as Check returned it. The error matches
// ErrInvalid.
func CheckCount(b []byte, h Header) error {
	keys := keyReaders.Get().(*keyReader)
	defer keyReaders.Put(keys)
	if err := keys.each(h, bytes.NewReader(b[HeaderSize:]), func(int, keyed) bool { return false }); err != nil {
		return fmt.Errorf("%w: %d bytes that claim %d records: %v", ErrInvalid, h.Size(), h.Records, err)
	}
	return nil
}
