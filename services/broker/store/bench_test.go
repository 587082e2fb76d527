package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// BenchmarkAppend is what the log itself costs for a batch, the disk left
// out.
func BenchmarkAppend(b *testing.B) {
	value := strings.Repeat("x", 1000)
	for _, bb := range []struct {
		name string
		spec spec
	}{
		{"plain", spec{values: []string{value}}},
		{"idempotent", spec{values: []string{value}, pid: 7}},
		{"transactional", spec{values: []string{value}, pid: 7, attrs: 0x10}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			l, err := openNull(b)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			data := batch(bb.spec)
			h, err := store.Check(data)
			if err != nil {
				b.Skip(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := l.Append(data, h, false); err != nil {
					b.Fatal(err)
				}
				h.BaseSequence++
			}
		})
	}
}

func openNull(b *testing.B) (*store.Log, error) {
	started := time.Now()
	age := func() int64 { return time.Since(started).Milliseconds() }
	fsys := nullFS{vfs.NewCrashable(1)}
	if err := store.Create(fsys, "p"); err != nil {
		return nil, err
	}
	return store.Open(fsys, "p", store.Options{Settings: store.Settings{SegmentBytes: 1 << 30}, Syncer: store.NewSyncer(1, nil), Linger: time.Hour, Age: age})
}

// nullFS forgets what is written to segments.
type nullFS struct{ *vfs.Crashable }

type nullFile struct{ vfs.File }

func (nullFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nullFile) Sync() error                            { return nil }

func (f nullFS) Open(name string) (vfs.File, error) { return null(f.Crashable.Open(name))(name) }

func (f nullFS) Create(name string) (vfs.File, error) { return null(f.Crashable.Create(name))(name) }

func null(f vfs.File, err error) func(name string) (vfs.File, error) {
	return func(name string) (vfs.File, error) {
		if err == nil && strings.HasSuffix(name, ".log") {
			return nullFile{f}, nil
		}
		return f, err
	}
}

// BenchmarkCompact is a pass over 64 MiB in which each key comes four times.
func BenchmarkCompact(b *testing.B) {
	for codec := range codecs {
		b.Run(codecs[codec].name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				fsys := vfs.OS(b.TempDir())
				if err := store.Create(fsys, "p"); err != nil {
					b.Fatal(err)
				}
				l, err := store.Open(fsys, "p", store.Options{Syncer: store.NewSyncer(1, nil), Settings: store.Settings{SegmentBytes: 8 << 20, Compaction: compacted}})
				if err != nil {
					b.Fatal(err)
				}
				var last int64
				noise := rand.New(rand.NewPCG(1, 1))
				for i := range 6500 {
					recs := make([]krec, 10)
					for k := range recs {
						recs[k] = krec{fmt.Sprintf("key-%d", (i*10+k)%16000), fmt.Sprint(noise.Perm(230))}
					}
					a, err := put(l, kbatch(b, spec{}, codec, recs...))
					if err != nil {
						b.Fatal(err)
					}
					last = a.Next
				}
				if err := l.Wait(b.Context(), last); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(65000 * 1000)
				b.StartTimer()
				if _, err := l.Compact(b.Context(), noPace); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				l.Close()
			}
		})
	}
}

// BenchmarkCheckRecords is what walking the records of batches of 1 MB costs
// that are no longer in the caches, checksums left out.
func BenchmarkCheckRecords(b *testing.B) {
	value := strings.Repeat("x", 1000)
	values := make([]string, 1000)
	for i := range values {
		values[i] = value
	}
	one := batch(spec{values: values})
	h, err := store.Check(one)
	if err != nil {
		b.Fatal(err)
	}
	batches := make([][]byte, 128)
	for i := range batches {
		batches[i] = slices.Clone(one)
	}
	b.SetBytes(int64(len(one)))
	b.ResetTimer()
	for i := range b.N {
		if _, err := store.CheckBy(batches[i%len(batches)], func([]byte, int) uint32 { return h.CRC }); err != nil {
			b.Fatal(err)
		}
	}
}
