package nbd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

const testSectors = 64

func newDisk(t *testing.T, opts Options) (*Disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := writeZeros(path); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// fill is n sectors of one byte.
func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n*SectorSize) }

func write(t *testing.T, d *Disk, b byte, sector, n int, fua bool) {
	t.Helper()
	if err := d.Write(fill(b, n), int64(sector)*SectorSize, fua); err != nil {
		t.Fatal(err)
	}
}

// platter is the first byte of every sector of the file. It fails if a sector
// is torn.
func platter(t *testing.T, path string) []byte {
	t.Helper()
	data := contents(t, path)
	var first []byte
	for i := 0; i < len(data); i += SectorSize {
		if !bytes.Equal(data[i:i+SectorSize], fill(data[i], 1)) {
			t.Errorf("sector %d is torn", i/SectorSize)
		}
		first = append(first, data[i])
	}
	return first
}

func TestReadsSeeTheNewestWrite(t *testing.T) {
	d, path := newDisk(t, Options{})
	write(t, d, 'a', 0, 4, false)
	write(t, d, 'b', 1, 2, false)
	got := make([]byte, 4*SectorSize)
	if _, err := d.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	want := append(append(fill('a', 1), fill('b', 2)...), fill('a', 1)...)
	if !bytes.Equal(got, want) {
		t.Error("read does not see the newest write of each sector")
	}
	if p := platter(t, path); p[0] != 0 {
		t.Errorf("un-flushed write is in the file: got %q, want nothing", p[0])
	}
}

func TestCutKeepsWhatWasFlushed(t *testing.T) {
	for seed := range uint64(20) {
		d, path := newDisk(t, Options{})
		write(t, d, 'f', 0, 16, false)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		write(t, d, 'u', 16, 16, true)
		write(t, d, 'x', 32, 16, false)
		write(t, d, 'y', 32, 16, false)
		write(t, d, 'z', 0, 1, false)
		stats, err := d.Cut(seed)
		if err != nil {
			t.Fatal(err)
		}
		if got := stats.Kept + stats.Dropped; got != 17 {
			t.Errorf("seed %d: got %d sectors at stake, want 17", seed, got)
		}
		p := platter(t, path)
		if !bytes.Equal(p[1:16], bytes.Repeat([]byte{'f'}, 15)) || !bytes.Equal(p[16:32], bytes.Repeat([]byte{'u'}, 16)) {
			t.Errorf("seed %d: a flushed or FUA write is lost: %q", seed, p[:32])
		}
		if p[0] != 'f' && p[0] != 'z' {
			t.Errorf("seed %d: sector 0 holds %q, want its flushed or its newest version", seed, p[0])
		}
		for i, b := range p[32:48] {
			if b != 0 && b != 'x' && b != 'y' {
				t.Errorf("seed %d: sector %d holds %q, which it never held", seed, 32+i, b)
			}
		}
	}
}

func TestNextWrite(t *testing.T) {
	d, _ := newDisk(t, Options{})
	third := d.NextWrite(3)
	for n := range 3 {
		select {
		case <-third:
			t.Fatalf("closed after %d writes, want 3", n)
		default:
		}
		write(t, d, 'a', n, 1, false)
	}
	select {
	case <-third:
	default:
		t.Error("not closed after the third write")
	}
	if stats, err := d.Cut(1); err != nil || stats.Kept+stats.Dropped != 3 {
		t.Errorf("cut: got %+v, %v, want three sectors kept or dropped", stats, err)
	}
}

func TestCutIsDecidedByTheSeed(t *testing.T) {
	run := func(seed uint64) string {
		d, path := newDisk(t, Options{})
		write(t, d, 'x', 0, testSectors, false)
		if _, err := d.Cut(seed); err != nil {
			t.Fatal(err)
		}
		return string(platter(t, path))
	}
	if run(1) != run(1) {
		t.Error("the same seed gave two outcomes")
	}
	if run(1) == run(2) {
		t.Error("two seeds gave the same outcome")
	}
}

func TestCutDiskRefusesEverything(t *testing.T) {
	d, _ := newDisk(t, Options{})
	if _, err := d.Cut(1); err != nil {
		t.Fatal(err)
	}
	_, readErr := d.ReadAt(make([]byte, SectorSize), 0)
	_, cutErr := d.Cut(1)
	for name, err := range map[string]error{
		"read": readErr, "write": d.Write(fill('a', 1), 0, false), "flush": d.Flush(), "cut": cutErr,
	} {
		if !errors.Is(err, ErrCut) {
			t.Errorf("%s: got error %v, want ErrCut", name, err)
		}
	}
}

func TestCutDuringFlushFindsEverythingUnflushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := newDisk(t, Options{FlushDelay: time.Minute})
		write(t, d, 'x', 0, 8, false)
		flushed := make(chan error)
		go func() { flushed <- d.Flush() }()
		synctest.Wait()
		stats, err := d.Cut(7)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-flushed; !errors.Is(err, ErrCut) {
			t.Errorf("flush: got error %v, want ErrCut", err)
		}
		if got := stats.Kept + stats.Dropped; got != 8 {
			t.Errorf("got %d sectors at stake, want 8", got)
		}
	})
}

func TestCloseWritesBack(t *testing.T) {
	d, path := newDisk(t, Options{})
	write(t, d, 'x', 3, 1, false)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := platter(t, path)[3]; got != 'x' {
		t.Errorf("sector 3 after close: got %q, want 'x'", got)
	}
}

func TestFullCacheIsWrittenBack(t *testing.T) {
	d, path := newDisk(t, Options{})
	for range maxPending/(testSectors*SectorSize) + 1 {
		write(t, d, 'x', 0, testSectors, false)
	}
	if got := platter(t, path)[0]; got != 'x' {
		t.Errorf("sector 0: got %q, want 'x'", got)
	}
}

func TestOpenRefusesOddSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(path, make([]byte, 700), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a disk of 700 bytes was opened")
	}
}

func writeZeros(path string) error {
	return os.WriteFile(path, make([]byte, testSectors*SectorSize), 0o600)
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
