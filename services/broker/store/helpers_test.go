package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// spec describes a batch to make.
type spec struct {
	values []string
	ms     int64 // of the first record; each later one is 1 ms younger
	pid    int64 // 0 means none
	epoch  int16
	seq    int32
	attrs  int16
	falls  bool // each later record is 1 ms older instead
}

func batch(s spec) []byte {
	var recs []byte
	for i, v := range s.values {
		delta := int64(i)
		if s.falls {
			delta = -delta
		}
		r := kmsg.Record{TimestampDelta64: delta, OffsetDelta: int32(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes one byte
		recs = r.AppendTo(recs)
	}
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: s.attrs, LastOffsetDelta: int32(len(s.values) - 1),
		FirstTimestamp: s.ms, MaxTimestamp: s.ms + int64(len(s.values)) - 1,
		ProducerID: s.pid, ProducerEpoch: s.epoch, FirstSequence: s.seq,
		NumRecords: int32(len(s.values)), Records: recs,
	}
	if s.falls {
		b.MaxTimestamp = s.ms
	}
	if s.pid == 0 {
		b.ProducerID, b.ProducerEpoch, b.FirstSequence = -1, -1, -1
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	return seal(b.AppendTo(nil))
}

// seal puts the right checksum into a batch.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func open(t *testing.T, fsys vfs.FS, opts store.Options) *store.Log {
	t.Helper()
	if opts.Syncer == nil {
		opts.Syncer = store.NewSyncer(4, nil)
	}
	if _, err := fsys.ReadDir("p"); err != nil {
		if err := store.Create(fsys, "p"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := store.Open(fsys, "p", opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// put appends a batch; it is not durable yet.
func put(l *store.Log, b []byte) (store.Appended, error) {
	h, err := store.Check(b)
	if err != nil {
		return store.Appended{}, err
	}
	return l.Append(b, h, true)
}

// putDurable appends a batch and waits for its sync.
func putDurable(t *testing.T, l *store.Log, s spec) store.Appended {
	t.Helper()
	a, err := put(l, batch(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(ctx(t), a.Next); err != nil {
		t.Fatal(err)
	}
	return a
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

// readAll returns the values of all records from offset on, and checks that
// offsets have no gap.
func readAll(t *testing.T, l *store.Log, offset int64) []string {
	t.Helper()
	var out []string
	_, hw := l.Bounds()
	for offset < hw {
		s, err := l.Read(offset, 700, true)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		b := make([]byte, s.Len())
		if err := s.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		s.Release()
		before := offset
		for {
			h, err := store.ParseHeader(b)
			if err != nil || h.Size() > int64(len(b)) {
				break // what follows the last whole batch
			}
			if h.BaseOffset > offset {
				t.Fatalf("at offset %d: the next batch begins at %d", offset, h.BaseOffset)
			}
			vals := values(t, b[:h.Size()])
			out = append(out, vals[offset-h.BaseOffset:]...)
			offset = h.LastOffset() + 1
			b = b[h.Size():]
		}
		if offset == before {
			t.Fatalf("read at %d: no whole batch", offset)
		}
	}
	return out
}

func values(t *testing.T, b []byte) []string {
	t.Helper()
	var rb kmsg.RecordBatch
	if err := rb.ReadFrom(b); err != nil {
		t.Fatalf("stored batch: %v", err)
	}
	var out []string
	for recs := rb.Records; len(recs) > 0; {
		n, w := binary.Varint(recs)
		var r kmsg.Record
		if err := r.ReadFrom(recs[:w+int(n)]); err != nil {
			t.Fatalf("stored record: %v", err)
		}
		out = append(out, string(r.Value))
		recs = recs[w+int(n):]
	}
	return out
}

func numbered(prefix string, from, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, from+i))
	}
	return out
}
