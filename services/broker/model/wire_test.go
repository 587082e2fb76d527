package model

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var zipper = gzip.NewWriter(io.Discard) // making one costs more than a history

const (
	attrGzip    = 1
	attrTxn     = 0x10
	attrControl = 0x20
)

// encode makes the record batch that a producer sends for b.
func (b *batch) encode() []byte {
	if b.raw == nil {
		b.raw = b.build()
	}
	return b.raw
}

func (b *batch) build() []byte {
	var records []byte
	for i, r := range b.recs {
		k := kmsg.Record{
			OffsetDelta: int32(i), TimestampDelta64: r.ms - b.recs[0].ms, Key: []byte(r.key), Value: r.value,
			Headers: []kmsg.Header{{Key: "id", Value: []byte(fmt.Sprintf("%d.%d", b.id, i))}},
		}
		k.Length = int32(len(k.AppendTo(nil)) - 1)
		raw := k.AppendTo(nil)
		if k.Length > 63 { // the length took more than the one byte of zero
			k.Length = int32(len(raw) - varintLen(k.Length))
			raw = k.AppendTo(nil)
		}
		records = append(records, raw...)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, NumRecords: int32(len(b.recs)), LastOffsetDelta: int32(len(b.recs) - 1),
		FirstTimestamp: b.recs[0].ms, ProducerID: b.pid, ProducerEpoch: b.epoch, FirstSequence: b.seq,
	}
	for _, r := range b.recs {
		rb.MaxTimestamp = max(rb.MaxTimestamp, r.ms)
	}
	if b.gzip {
		var z bytes.Buffer
		zipper.Reset(&z)
		zipper.Write(records)
		zipper.Close()
		records, rb.Attributes = z.Bytes(), attrGzip
	}
	if b.txn != nil {
		rb.Attributes |= attrTxn
	}
	rb.Records = records
	rb.Length = int32(len(rb.AppendTo(nil)) - 12)
	raw := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func varintLen(n int32) int { return len(binary.AppendVarint(nil, int64(n))) }

// read is one record, or one control batch, as a consumer gets it.
type read struct {
	offset int64
	batch  int // of the model; -1 for a marker
	index  int // in the batch
	key    string
	value  []byte
	ms     int64
	pid    int64
	inTxn  bool
	commit bool // of a marker
}

// chunk is what one fetch returned.
type chunk struct {
	reads []read
	next  int64 // offset behind the last whole batch
	bytes int
}

// decode reads whole batches. The last one may be cut.
func decode(b []byte, from int64) (chunk, error) {
	out := chunk{next: from}
	for len(b) >= 61 {
		size := 12 + int(int32(binary.BigEndian.Uint32(b[8:])))
		if size < 61 {
			return out, fmt.Errorf("batch of %d bytes", size)
		}
		if size > len(b) {
			break
		}
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(b[:size]); err != nil {
			return out, err
		}
		if sum := crc32.Checksum(b[21:size], crc32.MakeTable(crc32.Castagnoli)); int32(sum) != rb.CRC {
			return out, fmt.Errorf("checksum of the batch at offset %d is wrong", rb.FirstOffset)
		}
		reads, err := decodeBatch(&rb)
		if err != nil {
			return out, fmt.Errorf("batch at offset %d: %v", rb.FirstOffset, err)
		}
		if rb.FirstOffset < from && rb.FirstOffset+int64(rb.LastOffsetDelta) < from {
			return out, fmt.Errorf("batch at offset %d lies before %d", rb.FirstOffset, from)
		}
		out.reads = append(out.reads, reads...)
		out.next = rb.FirstOffset + int64(rb.LastOffsetDelta) + 1
		out.bytes += size
		b = b[size:]
	}
	return out, nil
}

func decodeBatch(rb *kmsg.RecordBatch) (out []read, err error) {
	raw := rb.Records
	switch rb.Attributes & 7 {
	case 0:
	case attrGzip:
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if raw, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("codec %d was never sent", rb.Attributes&7)
	}
	for range rb.NumRecords {
		var k kmsg.Record
		n, w := binary.Varint(raw)
		if w <= 0 || n < 0 || int(n) > len(raw)-w {
			return nil, fmt.Errorf("a record's length is wrong")
		}
		if err := k.ReadFrom(raw[:w+int(n)]); err != nil {
			return nil, err
		}
		raw = raw[w+int(n):]
		r := read{
			offset: rb.FirstOffset + int64(k.OffsetDelta), batch: -1, key: string(k.Key), value: k.Value,
			ms: rb.FirstTimestamp + k.TimestampDelta64, pid: rb.ProducerID, inTxn: rb.Attributes&attrTxn != 0,
		}
		if rb.Attributes&8 != 0 {
			r.ms = rb.MaxTimestamp
		}
		if rb.Attributes&attrControl != 0 {
			r.commit = len(k.Key) >= 4 && k.Key[3] == 1
		} else if len(k.Headers) != 1 {
			return nil, fmt.Errorf("record at offset %d has no id", r.offset)
		} else if _, err := fmt.Sscanf(string(k.Headers[0].Value), "%d.%d", &r.batch, &r.index); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
