package unpack

import (
	"encoding/binary"
	"testing"
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
