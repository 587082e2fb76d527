package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
)

// A record batch, version 2 (Kafka's "Record Batch" message format): 61 bytes
// of header, then the records, compressed or not. All integers are big-endian.
//
//	0 base offset int64     12 leader epoch int32   21 attributes int16      43 producer id int64
//	8 length int32 (rest)   16 magic int8 = 2       23 last offset delta     51 producer epoch int16
//	                        17 CRC-32C uint32       27 first timestamp ms    53 base sequence int32
//	                                                35 max timestamp ms      57 record count int32
//
// The checksum covers byte 21 to the end, so base offset and leader epoch are
// patched in place without touching the records.
const (
	HeaderSize = 61
	prefixSize = 12 // base offset and length; Length counts what follows
	magicAt    = 16 // in message sets of version 0 and 1 too
	crcStart   = 21
)

// Attribute bits.
const (
	attrCodec         = 0x07
	attrLogAppend     = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	lastCodec         = 4 // none, gzip, snappy, lz4, zstd
)

// What can be wrong with a batch that a producer sends.
var (
	ErrCorrupt = errors.New("corrupt record batch")
	ErrMagic   = errors.New("record batch is not version 2")
	ErrCodec   = errors.New("unknown compression codec")
	ErrInvalid = errors.New("invalid record batch")
)

// CorruptError is damage found on the disk, with its place. It matches
// ErrCorrupt.
type CorruptError struct {
	File   string
	Pos    int64 // in the file, in bytes
	Offset int64 // of the damaged batch as far as that is known, else of the segment
	Err    error // what is wrong
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s at %d (offset %d): %v", e.File, e.Pos, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the fixed part of a record batch.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after this field
	LeaderEpoch     int32
	Magic           int8
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	FirstTimestamp  int64 // ms
	MaxTimestamp    int64 // ms
	ProducerID      int64 // -1 when not idempotent
	ProducerEpoch   int16
	BaseSequence    int32
	Records         int32
}

// Size of the whole batch, in bytes.
func (h Header) Size() int64 { return prefixSize + int64(h.Length) }

// LastOffset of the batch.
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Control reports whether the batch holds no records but a marker.
func (h Header) Control() bool { return h.Attributes&attrControl != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (h Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// ParseHeader reads the header at the start of b and checks what can be
// checked without the records: magic, length, counts.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes are less than a header", ErrCorrupt, len(b))
	}
	be := binary.BigEndian
	h := Header{
		BaseOffset: int64(be.Uint64(b)), Length: int32(be.Uint32(b[8:])),
		LeaderEpoch: int32(be.Uint32(b[12:])), Magic: int8(b[16]), CRC: be.Uint32(b[17:]),
		Attributes: int16(be.Uint16(b[21:])), LastOffsetDelta: int32(be.Uint32(b[23:])),
		FirstTimestamp: int64(be.Uint64(b[27:])), MaxTimestamp: int64(be.Uint64(b[35:])),
		ProducerID: int64(be.Uint64(b[43:])), ProducerEpoch: int16(be.Uint16(b[51:])),
		BaseSequence: int32(be.Uint32(b[53:])), Records: int32(be.Uint32(b[57:])),
	}
	switch {
	case h.Magic != 2:
		return h, fmt.Errorf("%w: magic %d", ErrMagic, h.Magic)
	case h.Length < HeaderSize-prefixSize:
		return h, fmt.Errorf("%w: length %d", ErrCorrupt, h.Length)
	case h.LastOffsetDelta < 0 || h.Records < 0:
		return h, fmt.Errorf("%w: %d records, last offset delta %d", ErrCorrupt, h.Records, h.LastOffsetDelta)
	}
	return h, nil
}

// checkStored reads the batch at the start of b and verifies its checksum.
func checkStored(b []byte) (Header, error) { return checkBy(b, checksum) }

func checksum(b []byte, _ int) uint32 { return crc32.Checksum(b, castagnoli) }

func checkBy(b []byte, sum func([]byte, int) uint32) (Header, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return h, err
	}
	if h.Size() > int64(len(b)) {
		return h, fmt.Errorf("%w: length %d, %d bytes present", ErrCorrupt, h.Length, len(b)-prefixSize)
	}
	if got := sum(b[crcStart:h.Size()], crcStart); got != h.CRC {
		return h, fmt.Errorf("%w: checksum %08x, header says %08x", ErrCorrupt, got, h.CRC)
	}
	return h, nil
}

// Check verifies a batch from a producer: b must be exactly one whole batch.
func Check(b []byte) (Header, error) { return CheckBy(b, checksum) }

// CheckBy is Check for who has read the batch before: sum is the CRC-32C of a
// part of it that begins at a position.
func CheckBy(b []byte, sum func(part []byte, at int) uint32) (Header, error) {
	if len(b) > magicAt && b[magicAt] < 2 { // an old message set may be shorter than a header
		return Header{}, fmt.Errorf("%w: magic %d", ErrMagic, b[magicAt])
	}
	h, err := checkBy(b, sum)
	if err != nil {
		return h, err
	}
	switch {
	case h.Size() != int64(len(b)):
		return h, fmt.Errorf("%w: %d bytes after the batch; one batch per partition is allowed", ErrInvalid, int64(len(b))-h.Size())
	case h.Records == 0 || h.LastOffsetDelta != h.Records-1:
		return h, fmt.Errorf("%w: %d records, last offset delta %d", ErrInvalid, h.Records, h.LastOffsetDelta)
	case h.Attributes&attrCodec > lastCodec:
		return h, fmt.Errorf("%w: %d", ErrCodec, h.Attributes&attrCodec)
	case h.Attributes&attrControl != 0:
		return h, fmt.Errorf("%w: control batches come from the broker only", ErrInvalid)
	case h.Attributes&attrLogAppend != 0:
		return h, fmt.Errorf("%w: log append time is set by the broker only", ErrInvalid)
	case h.Transactional() && h.ProducerID < 0:
		return h, fmt.Errorf("%w: transactional without a producer id", ErrInvalid)
	case h.ProducerID >= 0 && (h.BaseSequence < 0 || h.ProducerEpoch < 0):
		return h, fmt.Errorf("%w: producer id %d without sequence", ErrInvalid, h.ProducerID)
	}
	if h.Attributes&attrCodec == 0 {
		return h, checkRecords(b[HeaderSize:], int(h.Records))
	}
	return h, nil
}

const recordsAhead = 16

// checkRecords walks uncompressed records: the count must be what the header
// says, or every consumer would choke on the batch for ever.
//
// A large request has left the caches when its last byte is there, and where a
// record begins is known from the one before only: each would be waited for by
// itself. So the byte is read ahead where one begins if all are as long as this.
func checkRecords(b []byte, count int) error {
	var ahead byte
	defer func() { runtime.KeepAlive(ahead) }() // or the compiler leaves it out
	for i := range count {
		n, w := binary.Varint(b)
		if w <= 0 || n < 0 || n > int64(len(b)-w) {
			return fmt.Errorf("%w: record %d of %d does not fit", ErrInvalid, i, count)
		}
		size := w + int(n)
		if at := recordsAhead * size; at < len(b) {
			ahead ^= b[at]
		}
		b = b[size:]
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes after the last record", ErrInvalid, len(b))
	}
	return nil
}

// patch puts a batch in its place in the log.
func patch(b []byte, base int64, epoch int32) {
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[12:], uint32(epoch))
}
