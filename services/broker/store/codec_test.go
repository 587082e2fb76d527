package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// The codecs by number; franz-go's are the other side here.
var codecs = []struct {
	name string
	kgo  kgo.CompressionCodec
}{
	{"uncompressed", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
	{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
}

// compressed is a batch with its records compressed by a client.
func compressed(t testing.TB, s spec, codec int) []byte {
	b := batch(s)
	if codec == 0 {
		return b
	}
	c, err := kgo.DefaultCompressor(codecs[codec].kgo)
	if err != nil {
		t.Fatal(err)
	}
	recs, _ := c.Compress(new(bytes.Buffer), b[61:])
	return withRecords(b, recs, codec)
}

func withRecords(b, recs []byte, codec int) []byte {
	b = append(slices.Clone(b[:61]), recs...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[22] = b[22]&^7 | byte(codec)
	return seal(b)
}

// opened is a stored batch with its records decompressed by a client.
func opened(t *testing.T, b []byte) []byte {
	t.Helper()
	codec := int(b[22] & 7)
	if codec == 0 {
		return b
	}
	recs, err := kgo.DefaultDecompressor().Decompress(b[61:], kgo.CompressionCodecType(codec))
	must(t, err)
	return withRecords(b, recs, 0)
}

// TestRecompress brings batches of every codec to every codec.
func TestRecompress(t *testing.T) {
	for to, want := range codecs {
		l := open(t, vfs.NewCrashable(1), store.Options{Settings: store.Settings{Compression: want.name}})
		for from := range codecs {
			for _, size := range []int{0, 10, 100_000} {
				vals := numbered(strings.Repeat("value", size/5), 0, 3)
				a, err := put(l, compressed(t, spec{values: vals, ms: 50, pid: int64(from*1_000_000 + size + 1)}, from))
				if err != nil {
					t.Fatalf("%s to %s: %v", codecs[from].name, want.name, err)
				}
				must(t, l.Wait(ctx(t), a.Next))
				h, b := stored(t, l, a.Base)
				if h.Attributes != int16(to) || h.MaxTimestamp != 52 || h.Records != 3 || h.BaseOffset != a.Base {
					t.Errorf("%s to %s: stored %+v", codecs[from].name, want.name, h)
				}
				if crc := binary.BigEndian.Uint32(seal(slices.Clone(b))[17:]); crc != h.CRC {
					t.Errorf("%s to %s: checksum %x, want %x", codecs[from].name, want.name, h.CRC, crc)
				}
				if diff := cmp.Diff(vals, values(t, opened(t, b))); diff != "" {
					t.Errorf("%s to %s (-want +got):\n%.300s", codecs[from].name, want.name, diff)
				}
			}
		}
		l.Close()
	}
}

// TestRecompressRefuses what is not what it claims to be, in bounded memory.
func TestRecompressRefuses(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	must(t, err)
	const huge = 200 << 20 // one record, whole and right, but for its size
	bomb := enc.EncodeAll(append(binary.AppendVarint(nil, huge), make([]byte, huge)...), nil)
	one := batch(spec{values: []string{"a"}})
	big := compressed(t, spec{values: []string{strings.Repeat("x", 5000)}}, 4)
	miscounted := compressed(t, spec{values: []string{"a", "b"}}, 4)
	binary.BigEndian.PutUint32(miscounted[23:], 2)
	binary.BigEndian.PutUint32(miscounted[57:], 3)
	tests := []struct {
		name string
		b    []byte
		to   string
		max  int64
		want error
	}{
		{"garbage", withRecords(one, []byte("no such thing"), 1), "zstd", 0, store.ErrCorrupt},
		{"bomb", withRecords(one, bomb, 4), "gzip", 0, store.ErrCorrupt},
		{"cut", withRecords(one, big[61:len(big)-4], 4), "none", 0, nil},
		{"cut", withRecords(one, big[61:len(big)-4], 4), "gzip", 0, store.ErrCorrupt},
		{"record count", seal(miscounted), "gzip", 0, store.ErrInvalid},
		{"too large", big, "uncompressed", 4000, store.ErrTooLarge},
		{"just fits", big, "uncompressed", 5100, nil},
		{"snappy lie", withRecords(one, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, 2), "gzip", 0, store.ErrCorrupt},
		{"snappy frame lie", withRecords(one, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xffx"), 2), "gzip", 0, store.ErrCorrupt},
	}
	for _, tt := range tests {
		l := open(t, vfs.NewCrashable(1), store.Options{Settings: store.Settings{Compression: tt.to, MaxMessageBytes: tt.max}})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := put(l, tt.b)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s to %s: got %v, want %v", tt.name, tt.to, err, tt.want)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 24 {
			t.Errorf("%s to %s: took %d MiB of memory", tt.name, tt.to, mb)
		}
		l.Close()
	}
}

// TestOffsetForTimeCompressed finds the record within the batch.
func TestOffsetForTimeCompressed(t *testing.T) {
	for codec, c := range codecs {
		l := open(t, vfs.NewCrashable(1), store.Options{})
		for i := range 3 {
			vals := numbered("v", 0, 100)
			a, err := put(l, compressed(t, spec{values: vals, ms: int64(1000 * i)}, codec))
			must(t, err)
			must(t, l.Wait(ctx(t), a.Next))
		}
		for _, tt := range []struct{ ms, want int64 }{{0, 0}, {1, 1}, {57, 57}, {100, 100}, {1099, 199}, {1100, 200}, {2099, 299}} {
			if got, ok, err := l.OffsetForTime(tt.ms); !ok || err != nil || got.Offset != tt.want {
				t.Errorf("%s: time %d: got %+v, %v, %v, want offset %d", c.name, tt.ms, got, ok, err, tt.want)
			}
		}
		if got, ok, err := l.OffsetForMaxTimestamp(); !ok || err != nil || got.Offset != 299 || got.Ms != 2099 {
			t.Errorf("%s: largest timestamp: got %+v, %v, %v", c.name, got, ok, err)
		}
		l.Close()
	}
	l := open(t, vfs.NewCrashable(1), store.Options{}) // what cannot be read stands as a whole
	defer l.Close()
	b := withRecords(batch(spec{values: []string{"a", "b"}, ms: 10}), []byte("garbage"), 4)
	a, err := put(l, b)
	must(t, err)
	must(t, l.Wait(ctx(t), a.Next))
	if got, ok, err := l.OffsetForTime(11); !ok || err != nil || got.Offset != 0 {
		t.Errorf("garbage: got %+v, %v, %v, want the batch's first record", got, ok, err)
	}
}

// TestOffsetForTimeAfterTrim: a log that starts within a batch has no records
// before that.
func TestOffsetForTimeAfterTrim(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{})
	defer l.Close()
	putDurable(t, l, spec{values: []string{"a", "b", "c"}, ms: 10})
	putDurable(t, l, spec{values: []string{"d"}, ms: 20})
	must(t, l.Trim(2))
	for _, tt := range []struct{ ms, want int64 }{{0, 2}, {10, 2}, {12, 2}, {13, 3}} {
		if got, ok, err := l.OffsetForTime(tt.ms); !ok || err != nil || got.Offset != tt.want {
			t.Errorf("time %d: got %+v, %v, %v, want offset %d", tt.ms, got, ok, err, tt.want)
		}
	}
}

// TestCorruptBatchHasAPlace: damage found while looking into a batch.
func TestCorruptBatchHasAPlace(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	defer l.Close()
	first := putDurable(t, l, spec{values: []string{"a", "b"}, ms: 10})
	putDurable(t, l, spec{values: []string{"c", "d"}, ms: 20})
	size := int64(len(batch(spec{values: []string{"a", "b"}})))
	f, err := fsys.Open("p/00000000000000000000.log")
	must(t, err)
	_, err = f.WriteAt([]byte{0xee}, size+70)
	must(t, err)
	_, _, err = l.OffsetForTime(21)
	var ce *store.CorruptError
	if !errors.Is(err, store.ErrCorrupt) || !errors.As(err, &ce) || ce.Pos != size || ce.Offset != first.Next {
		t.Errorf("got %v, want ErrCorrupt at position %d, offset %d", err, size, first.Next)
	}
}
