// Package nbd is a disk for power-cut tests: an NBD server over a raw file
// that keeps un-flushed writes in memory and, when the power is cut, lets
// chance decide for every sector which of them reached the platter.
package nbd

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"
)

// SectorSize is the unit that a power cut does not tear, in bytes.
const SectorSize = 512

// maxPending bounds the cache, in bytes. Beyond it everything is written
// back, as a real disk's cache does on its own.
const maxPending = 64 << 20

// ErrCut is the answer to everything after Cut.
var ErrCut = errors.New("the power of this disk is cut")

// Options of a disk.
type Options struct {
	// FlushDelay is how long a flush takes. Writes that arrive meanwhile are
	// not covered by it, and a cut meanwhile finds everything un-flushed.
	FlushDelay time.Duration
	// Lies has the disk say that it has flushed, and not do it: the control
	// of a test that claims to notice lost writes.
	Lies bool
}

// Stats counts what happened to a disk. Kept and Dropped are sectors with
// un-flushed writes at the cut; of a kept one any of its un-flushed versions
// is on the disk, of a dropped one none.
type Stats struct {
	Writes  int // requests
	Flushes int // requests
	Kept    int
	Dropped int
}

// Disk is a raw file with a volatile write cache. What is in the file has
// survived; what is in pending would be lost. Safe for concurrent use.
type Disk struct {
	opts Options
	size int64
	cut  chan struct{} // closed by Cut and Close

	mu      sync.Mutex
	file    *os.File
	gone    bool
	pending map[int64][][]byte // sector number to its un-flushed versions, oldest first
	bytes   int                // in pending
	stats   Stats
	waits   map[int]chan struct{} // closed when stats.Writes reaches the key
}

// Open opens a raw file whose size is a multiple of SectorSize.
func Open(path string, opts Options) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	st, err := f.Stat()
	if err == nil && (st.Size() == 0 || st.Size()%SectorSize != 0) {
		err = fmt.Errorf("size %d is not a multiple of %d", st.Size(), SectorSize)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open disk %s: %w", path, err)
	}
	return &Disk{opts: opts, size: st.Size(), file: f, cut: make(chan struct{}),
		pending: map[int64][][]byte{}, waits: map[int]chan struct{}{}}, nil
}

// Size is the disk's size in bytes.
func (d *Disk) Size() int64 { return d.size }

// Stats counts so far.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// NextWrite returns a channel that is closed when the n-th write from now has
// arrived: a cut at that moment finds it un-flushed.
func (d *Disk) NextWrite(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.stats.Writes + max(n, 1)
	if d.waits[at] == nil {
		d.waits[at] = make(chan struct{})
	}
	return d.waits[at]
}

// ReadAt reads what was written last. Offset and length are multiples of
// SectorSize and inside the disk, here and in Write.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return 0, ErrCut
	}
	n, err := d.file.ReadAt(p, off)
	if err != nil {
		return n, err
	}
	for i := 0; len(d.pending) > 0 && i < len(p); i += SectorSize {
		if versions := d.pending[(off+int64(i))/SectorSize]; len(versions) > 0 {
			copy(p[i:], versions[len(versions)-1])
		}
	}
	return n, nil
}

// Write takes a write into the cache; with fua it is in the file on return.
func (d *Disk) Write(p []byte, off int64, fua bool) error {
	fua = fua && !d.opts.Lies
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return ErrCut
	}
	d.stats.Writes++
	if c := d.waits[d.stats.Writes]; c != nil {
		delete(d.waits, d.stats.Writes)
		defer close(c) // when it is in the cache
	}
	data := slices.Clone(p)
	for i := 0; i < len(p); i += SectorSize {
		sector := (off + int64(i)) / SectorSize
		if fua {
			d.bytes -= len(d.pending[sector]) * SectorSize
			delete(d.pending, sector)
			continue
		}
		d.pending[sector] = append(d.pending[sector], data[i:i+SectorSize])
		d.bytes += SectorSize
	}
	if fua {
		_, err := d.file.WriteAt(p, off)
		return err
	}
	if d.bytes > maxPending {
		return d.writeBack()
	}
	return nil
}

// Flush returns when every write that finished before it is in the file.
func (d *Disk) Flush() error {
	if d.opts.FlushDelay > 0 {
		timer := time.NewTimer(d.opts.FlushDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.cut:
			return ErrCut
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return ErrCut
	}
	d.stats.Flushes++
	if d.opts.Lies {
		return nil
	}
	return d.writeBack()
}

// writeBack puts the newest version of every pending sector into the file.
func (d *Disk) writeBack() error {
	for _, sector := range slices.Sorted(maps.Keys(d.pending)) {
		versions := d.pending[sector]
		if _, err := d.file.WriteAt(versions[len(versions)-1], sector*SectorSize); err != nil {
			return fmt.Errorf("write back sector %d: %w", sector, err)
		}
	}
	clear(d.pending)
	d.bytes = 0
	return nil
}

// Cut is a power cut. For each sector with un-flushed writes the seed decides
// whether none of them or which one reached the platter. The disk then
// answers ErrCut; the file can be opened again.
func (d *Disk) Cut(seed uint64) (Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return d.stats, ErrCut
	}
	rng := rand.New(rand.NewPCG(seed, uint64(d.size)))
	for _, sector := range slices.Sorted(maps.Keys(d.pending)) {
		versions := d.pending[sector]
		// Half of the sectors are lost, whatever the number of versions.
		if rng.IntN(2) == 0 {
			d.stats.Dropped++
			continue
		}
		d.stats.Kept++
		if _, err := d.file.WriteAt(versions[rng.IntN(len(versions))], sector*SectorSize); err != nil {
			return d.stats, fmt.Errorf("keep sector %d: %w", sector, err)
		}
	}
	return d.stats, d.shut()
}

// Close writes everything back, as an orderly power off does.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return nil
	}
	return errors.Join(d.writeBack(), d.shut())
}

func (d *Disk) shut() error {
	d.gone = true
	close(d.cut)
	clear(d.pending)
	return d.file.Close()
}
