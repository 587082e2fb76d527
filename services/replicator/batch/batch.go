// Package batch reads and restamps record batches as a broker stores them
// (magic 2, KIP-98), without looking into their records.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Batch is one whole batch. Split makes it.
type Batch []byte

// Places in a batch, in bytes; all numbers are big-endian.
const (
	atBase          = 0
	atLength        = 8 // of what follows it
	atLeaderEpoch   = 12
	atMagic         = 16
	atCRC           = 17 // of all behind it
	atAttributes    = 21
	atLastDelta     = 23
	atFirstTime     = 27
	atMaxTime       = 35
	atProducer      = 43
	atProducerEpoch = 51
	atSequence      = 53
	atCount         = 57
	atRecords       = 61
)

// Attributes.
const (
	codecBits     = 0x7
	appendTime    = 0x8 // MaxTimestamp is the broker's, and that of every record
	transactional = 0x10
	control       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Split cuts what a fetch answered into its batches, which share its memory.
// The last one may be cut off and is left out then. An error is about damage.
func Split(b []byte) (all []Batch, err error) {
	for len(b) >= atLength+4 {
		n := int64(atLength+4) + int64(int32(binary.BigEndian.Uint32(b[atLength:])))
		if n < atRecords {
			return all, fmt.Errorf("a batch says that it has %d bytes", n)
		}
		if n > int64(len(b)) {
			return all, nil
		}
		one := Batch(b[:n:n])
		if one[atMagic] != 2 {
			return all, fmt.Errorf("batch at offset %d has format %d, want 2", one.Base(), one[atMagic])
		}
		if crc32.Checksum(one[atAttributes:], castagnoli) != binary.BigEndian.Uint32(one[atCRC:]) {
			return all, fmt.Errorf("batch at offset %d is damaged: its checksum does not match", one.Base())
		}
		if one.Last() < one.Base() || one.count() < 0 {
			return all, fmt.Errorf("batch at offset %d ends at %d with %d records", one.Base(), one.Last(), one.count())
		}
		all, b = append(all, one), b[n:]
	}
	return all, nil
}

func (b Batch) int64At(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
func (b Batch) int32At(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }

func (b Batch) count() int32      { return b.int32At(atCount) }
func (b Batch) attributes() int16 { return int16(binary.BigEndian.Uint16(b[atAttributes:])) }

// Base and Last are the offsets of its first and last record, which compaction
// may have taken.
func (b Batch) Base() int64 { return b.int64At(atBase) }

// Last is described at Base.
func (b Batch) Last() int64 { return b.Base() + int64(b.int32At(atLastDelta)) }

// Records is how many there are.
func (b Batch) Records() int { return int(b.count()) }

// LeaderEpoch is the epoch of the leader that appended it.
func (b Batch) LeaderEpoch() int32 { return b.int32At(atLeaderEpoch) }

// MaxTimestamp is in ms since 1970.
func (b Batch) MaxTimestamp() int64 { return b.int64At(atMaxTime) }

// ProducerID is -1 where the producer had none.
func (b Batch) ProducerID() int64 { return b.int64At(atProducer) }

// Control is true for the end of a transaction, which is no record.
func (b Batch) Control() bool { return b.attributes()&control != 0 }

// Transactional is true for records of a transaction.
func (b Batch) Transactional() bool { return b.attributes()&transactional != 0 }

// AsIs is true if a broker takes it from a producer as it is: no record is
// missing, and the timestamps are those of its producer.
func (b Batch) AsIs() bool {
	return b.count() == b.int32At(atLastDelta)+1 && b.attributes()&appendTime == 0
}

// Stamp makes it the batch of another producer. The records stay as they are.
func (b Batch) Stamp(producer int64, epoch int16, sequence int32) {
	binary.BigEndian.PutUint64(b[atBase:], 0)
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], ^uint32(0))
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(b.attributes()|transactional))
	binary.BigEndian.PutUint64(b[atProducer:], uint64(producer))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[atSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

var errTorn = errors.New("a record is cut off")

// From makes a batch anew of the records from an offset on, side by side and
// uncompressed: for one that was begun in the middle, or that compaction has
// taken records of. It is nil if none is left.
func (b Batch) From(offset int64, d kgo.Decompressor) (Batch, error) {
	left, err := d.Decompress(b[atRecords:], kgo.CompressionCodecType(b.attributes()&codecBits))
	if err != nil {
		return nil, fmt.Errorf("decompress batch at offset %d: %w", b.Base(), err)
	}
	out := append(Batch(nil), b[:atRecords]...)
	n, last := int32(0), int64(0)
	for range b.count() {
		var r kmsg.Record
		if left, err = next(&r, left); err != nil {
			return nil, fmt.Errorf("batch at offset %d: %w", b.Base(), err)
		}
		at := b.Base() + int64(r.OffsetDelta)
		if at < offset {
			continue
		}
		if b.attributes()&appendTime != 0 {
			r.TimestampDelta64 = b.MaxTimestamp() - b.int64At(atFirstTime)
			r.TimestampDelta = int32(r.TimestampDelta64)
		}
		r.OffsetDelta = n
		n, last = n+1, at
		out = appendRecord(out, &r)
	}
	if n == 0 {
		return nil, nil
	}
	binary.BigEndian.PutUint64(out[atBase:], uint64(last-int64(n)+1)) // so that Last stays
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-atLength-4))
	binary.BigEndian.PutUint16(out[atAttributes:], uint16(b.attributes()&^(appendTime|codecBits)))
	binary.BigEndian.PutUint32(out[atLastDelta:], uint32(n-1))
	binary.BigEndian.PutUint32(out[atCount:], uint32(n))
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	return out, nil
}

// next reads a record and returns what is behind it.
func next(r *kmsg.Record, b []byte) ([]byte, error) {
	size, n := binary.Varint(b)
	if n <= 0 || size < 0 || size > int64(len(b)-n) {
		return nil, errTorn
	}
	if err := r.ReadFrom(b[:n+int(size)]); err != nil {
		return nil, err
	}
	return b[n+int(size):], nil
}

func appendRecord(b []byte, r *kmsg.Record) []byte {
	r.Length = 0
	body := r.AppendTo(nil)[1:] // a length of 0 takes one byte
	return append(binary.AppendVarint(b, int64(len(body))), body...)
}
