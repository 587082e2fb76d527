package store

import (
	"bytes"
	"fmt"
	"sync"
)

// keyReaders are kept between batches.
var keyReaders = sync.Pool{New: func() any { return newKeyReader() }}

// KeyError says which records of a batch for a compacted topic have no key.
// It matches ErrInvalid.
type KeyError struct {
	Records []int32 // their numbers in the batch, from 0; the first maxKeyErrors
}

// maxKeyErrors bounds an answer.
const maxKeyErrors = 100

func (e *KeyError) Error() string {
	return fmt.Sprintf("%v: record %d has no key, and the topic is compacted", ErrInvalid, e.Records[0])
}

func (e *KeyError) Unwrap() error { return ErrInvalid }

// CheckKeys verifies that every record of a batch for a compacted topic has a
// key: b is the batch, h its header as Check returned it. The error is a
// *KeyError, or matches ErrCorrupt when the records cannot be read.
func CheckKeys(b []byte, h Header) error {
	var missing []int32
	keys := keyReaders.Get().(*keyReader)
	defer keyReaders.Put(keys)
	err := keys.each(h, bytes.NewReader(b[HeaderSize:]), func(i int, rec keyed) bool {
		if !rec.hasKey {
			missing = append(missing, int32(i))
		}
		return len(missing) == maxKeyErrors
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	case len(missing) > 0:
		return &KeyError{missing}
	}
	return nil
}
