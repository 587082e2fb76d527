package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// record is one of Kafka's format with a value and so many headers of nothing.
func record(value, headers int) []byte {
	r := []byte{0, 0, 0, 1} // attributes, times, no key
	r = binary.AppendVarint(r, int64(value))
	r = append(r, make([]byte, value)...)
	r = binary.AppendVarint(r, int64(headers))
	r = append(r, make([]byte, 2*headers)...)
	return append(binary.AppendVarint(nil, int64(len(r))), r...)
}

// A batch counts by what it takes in memory, which may be many times its bytes.
func TestCost(t *testing.T) {
	for _, c := range []struct{ records, value, headers int }{{1, 1000, 0}, {3, 100, 2}, {10_000, 0, 0}, {1, 0, 10_000}} {
		var batch []byte
		for range c.records {
			batch = append(batch, record(c.value, c.headers)...)
		}
		want := int64(len(batch) + c.records*(recordCost+headerCost*c.headers))
		if got := cost(batch); got != want {
			t.Errorf("%+v: got %d, want %d", c, got, want)
		}
	}
}

// Readers that hold what they can leave room for a batch of one more, and for
// small ones of any number.
func TestRoomForOneMore(t *testing.T) {
	const mb = 1 << 20
	r, err := NewRoom(Limits{Batch: 16 * mb, All: 48 * mb, Each: 16 * mb, Own: mb})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		stuck := &reader{Room: r}
		for range 10 {
			stuck.take(4 * mb)
		}
		if stuck.held == 0 || stuck.held > 16*mb {
			t.Errorf("reader %d got %d MB of 16", i, stuck.held/mb)
		}
	}
	one := &reader{Room: r}
	if !one.take(12 * mb) {
		t.Errorf("a reader that holds nothing gets none of %d MB", (48*mb-r.used)/mb)
	}
	if one.give(12 * mb); !one.take(12 * mb) {
		t.Error("it gets none again")
	}
	if small := (&reader{Room: r}); !small.take(mb/2) || !small.take(mb/2) {
		t.Errorf("a reader of small batches got %d bytes of %d, in a room of which all is taken", small.held, mb)
	}
}

// Batches of few bytes count when their records take many.
func TestSmallBatchesOfManyRecords(t *testing.T) {
	const all = 1 << 20
	r, err := NewRoom(Limits{Batch: all, All: 2 * all, Each: all})
	if err != nil {
		t.Fatal(err)
	}
	batch := bytes.Repeat(record(0, 0), 140)
	zstd, err := kgo.DefaultCompressor(kgo.ZstdCompression())
	if err != nil {
		t.Fatal(err)
	}
	packed, codec := zstd.Compress(new(bytes.Buffer), batch)
	one := r.Reader()
	var held [][]byte
	for len(held) < 10_000 && err == nil {
		var out []byte
		out, err = one.Decompress(packed, codec)
		held = append(held, out)
	}
	if got := int64(len(held)-1) * cost(batch); !errors.Is(err, ErrNoRoom) || got > all {
		t.Errorf("batches that take %d bytes were unpacked, then %v", got, err)
	}
	runtime.KeepAlive(held)
}

// FuzzCost holds that nothing that a producer may send upsets it.
func FuzzCost(f *testing.F) {
	f.Add(record(3, 2))
	f.Add(append(record(0, 0), record(1, 1)...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, batch []byte) {
		n := int64(len(batch))
		if got := cost(batch); got < n || got > n*(1+recordCost+headerCost) {
			t.Errorf("got %d for %d bytes", got, n)
		}
	})
}
