package batch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// made is a batch of records with these offset deltas.
func made(base int64, span int32, deltas ...int32) Batch {
	b := kmsg.RecordBatch{
		FirstOffset: base, Magic: 2, LastOffsetDelta: span - 1, FirstTimestamp: 1000, MaxTimestamp: 2000,
		PartitionLeaderEpoch: 3, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(deltas)),
	}
	for _, d := range deltas {
		r := kmsg.Record{OffsetDelta: d, TimestampDelta64: int64(d), Key: []byte("k"), Value: []byte{byte('a' + d)}, Headers: []kmsg.Header{{Key: "h", Value: []byte("v")}}}
		b.Records = appendRecord(b.Records, &r)
	}
	out := Batch(b.AppendTo(nil))
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-atLength-4))
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	return out
}

func TestSplit(t *testing.T) {
	one, two := made(5, 3, 0, 1, 2), made(8, 2, 0, 1)
	all, err := Split(append(append(bytes.Clone(one), two...), one[:20]...))
	if diff := cmp.Diff([]Batch{one, two}, all); diff != "" || err != nil {
		t.Errorf("%v, batches (-want +got):\n%s", err, diff)
	}
	if b := all[0]; b.Base() != 5 || b.Last() != 7 || b.Records() != 3 || b.LeaderEpoch() != 3 || b.MaxTimestamp() != 2000 || b.ProducerID() != -1 || b.Control() || b.Transactional() || !b.AsIs() {
		t.Errorf("batch %x is read wrong", b)
	}
	damaged := bytes.Clone(one)
	damaged[len(damaged)-1]++
	if all, err := Split(damaged); len(all) > 0 || err == nil {
		t.Errorf("a damaged batch is taken: %v, %v", all, err)
	}
}

func TestStamp(t *testing.T) {
	b := made(5, 3, 0, 1, 2)
	records := bytes.Clone(b[atRecords:])
	b.Stamp(77, 4, 9)
	all, err := Split(b)
	if err != nil || len(all) != 1 || !bytes.Equal(all[0][atRecords:], records) {
		t.Fatalf("%d batches, %v", len(all), err)
	}
	var got kmsg.RecordBatch
	if err := got.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	if got.ProducerID != 77 || got.ProducerEpoch != 4 || got.FirstSequence != 9 || !b.Transactional() || got.FirstOffset != 0 || got.FirstTimestamp != 1000 {
		t.Errorf("stamped: %+v", got)
	}
}

// offsetsOf are the offsets and timestamps of a batch's records.
func offsetsOf(t *testing.T, b Batch) (offsets, times []int64) {
	t.Helper()
	left := []byte(b[atRecords:])
	for range b.count() {
		var r kmsg.Record
		var err error
		if left, err = next(&r, left); err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, b.Base()+int64(r.OffsetDelta))
		times = append(times, b.int64At(atFirstTime)+r.TimestampDelta64)
	}
	return offsets, times
}

func TestFrom(t *testing.T) {
	open := kgo.DefaultDecompressor()
	late, err := made(5, 4, 0, 1, 2, 3).From(7, open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Split(late); err != nil {
		t.Error(err)
	}
	offsets, times := offsetsOf(t, late)
	if diff := cmp.Diff([][]int64{{7, 8}, {1002, 1003}}, [][]int64{offsets, times}); diff != "" || !late.AsIs() || late.Last() != 8 {
		t.Errorf("from the middle (-want +got):\n%s", diff)
	}
	holes := made(5, 10, 1, 4)
	if holes.AsIs() {
		t.Error("a batch with holes is taken as it is")
	}
	if whole, err := holes.From(0, open); err != nil || !whole.AsIs() || whole.Records() != 2 || whole.Last() != 9 {
		t.Errorf("a batch with holes: %v, %v", whole, err)
	}
	if none, err := holes.From(10, open); err != nil || none != nil {
		t.Errorf("a batch with nothing left: %v, %v", none, err)
	}
	stamped := made(5, 2, 0, 1)
	stamped[atAttributes+1] |= appendTime
	if got, err := stamped.From(0, open); err != nil || !got.AsIs() {
		t.Errorf("a batch with the broker's time: %v, %v", got, err)
	} else if _, times := offsetsOf(t, got); times[0] != 2000 || times[1] != 2000 {
		t.Errorf("times %v, want those of the broker", times)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte(made(5, 3, 0, 1, 2)))
	f.Add([]byte(made(5, 9, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; at+atRecords <= len(b); at += atRecords { // checksums that fit, or nothing is looked at
			if n := int(int32(binary.BigEndian.Uint32(b[at+atLength:]))); n > 0 && at+atLength+4+n <= len(b) && n >= atRecords-12 {
				binary.BigEndian.PutUint32(b[at+atCRC:], crc32.Checksum(b[at+atAttributes:at+atLength+4+n], castagnoli))
			}
		}
		all, _ := Split(b)
		for _, one := range all {
			made, err := one.From(one.Base(), kgo.DefaultDecompressor())
			if err != nil || made == nil {
				continue
			}
			if again, err := Split(made); err != nil || len(again) != 1 || !again[0].AsIs() {
				t.Errorf("%x made anew is %x: %v", one, made, err)
			}
			one.Stamp(1, 1, 1)
		}
	})
}
