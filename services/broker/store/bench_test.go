package store_test

import (
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
