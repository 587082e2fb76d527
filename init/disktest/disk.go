// Package disktest is a disk in memory for tests of what a power cut leaves:
// it knows which writes were flushed, and lets chance decide about the others.
package disktest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
)

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

// ErrCut is the answer to everything after the power cut.
var ErrCut = errors.New("the power is cut")

// Meter counts events of one or several disks, and cuts their power.
type Meter struct {
	Events int
	// CutAt ends all at this event, from 1, which then does not happen; 0 is
	// never.
	CutAt int
	cut   bool
}

// Tick is one event.
func (m *Meter) Tick() error {
	if m.cut {
		return ErrCut
	}
	if m.Events++; m.Events == m.CutAt {
		m.cut = true
		return ErrCut
	}
	return nil
}

// Cut says whether the power is off.
func (m *Meter) Cut() bool { return m.cut }

// Disk implements gpt.Disk. Sectors that were never written are Base's, or zero.
type Disk struct {
	Size int64
	Base io.ReaderAt // what the disk held before; nil: nothing. Never written to
	// Meter counts writes and flushes; nil counts nothing.
	Meter *Meter
	// Lies has Sync do nothing: the control of a test that claims to notice
	// a missing flush.
	Lies bool

	flushed map[int64][]byte // by sector; never changed in place
	seen    map[int64][]byte
	pending []write
}

type write struct {
	sector int64
	data   []byte
}

// New is an empty disk.
func New(size int64) *Disk {
	return &Disk{Size: size, flushed: map[int64][]byte{}, seen: map[int64][]byte{}}
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (n int, err error) {
	if d.Meter != nil && d.Meter.cut {
		return 0, ErrCut
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= d.Size {
			return n, io.EOF
		}
		in := at % Sector
		part := p[n:min(int64(len(p)), int64(n)+Sector-in, int64(n)+d.Size-at)]
		if s := d.seen[at/Sector]; s != nil {
			copy(part, s[in:])
		} else if err := d.before(part, at); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// before reads what was there before the disk's first write.
func (d *Disk) before(p []byte, at int64) error {
	clear(p)
	if d.Base == nil {
		return nil
	}
	if n, err := d.Base.ReadAt(p, at); n < len(p) && err != io.EOF {
		return err
	}
	return nil
}

// WriteAt implements io.WriterAt. It is one event, however long.
func (d *Disk) WriteAt(p []byte, off int64) (n int, err error) {
	if d.Meter != nil {
		// A request that is cut has reached the disk in part, perhaps.
		err = d.Meter.Tick()
		if err != nil && d.Meter.Events != d.Meter.CutAt {
			return 0, err
		}
	}
	if off < 0 || off+int64(len(p)) > d.Size {
		return 0, fmt.Errorf("write of %d bytes at %d: the disk has %d", len(p), off, d.Size)
	}
	for n < len(p) {
		at := off + int64(n)
		s := make([]byte, Sector)
		if was := d.seen[at/Sector]; was != nil {
			copy(s, was)
		} else if err := d.before(s, at/Sector*Sector); err != nil {
			return n, err
		}
		c := copy(s[at%Sector:], p[n:])
		d.seen[at/Sector] = s
		d.pending = append(d.pending, write{at / Sector, s})
		n += c
	}
	return n, err
}

// Sync implements gpt.Disk.
func (d *Disk) Sync() error {
	if d.Meter != nil {
		if err := d.Meter.Tick(); err != nil {
			return err
		}
	}
	if d.Lies {
		return nil
	}
	for _, w := range d.pending {
		d.flushed[w.sector] = w.data
	}
	d.pending = nil
	return nil
}

// After is what the disk holds after a power cut now. Of the sectors that were
// not flushed, chance takes none, all, those up to some moment, or any.
func (d *Disk) After(rng *rand.Rand) *Disk {
	out := &Disk{Size: d.Size, Base: d.Base, flushed: maps.Clone(d.flushed)}
	keep := func(int) bool { return false }
	switch upTo := rng.IntN(len(d.pending) + 1); rng.IntN(4) {
	case 1:
		keep = func(int) bool { return true }
	case 2:
		keep = func(i int) bool { return i < upTo }
	case 3:
		keep = func(int) bool { return rng.IntN(2) == 0 }
	}
	for i, w := range d.pending {
		if keep(i) {
			out.flushed[w.sector] = w.data
		}
	}
	out.seen = maps.Clone(out.flushed)
	return out
}

// Clone is an equal disk with nothing pending.
func (d *Disk) Clone() *Disk {
	return &Disk{Size: d.Size, Base: d.Base, flushed: maps.Clone(d.seen), seen: maps.Clone(d.seen)}
}

// CopyTo writes all that is not zero to w.
func (d *Disk) CopyTo(w io.WriterAt) error {
	for _, s := range slices.Sorted(maps.Keys(d.seen)) {
		if _, err := w.WriteAt(d.seen[s], s*Sector); err != nil {
			return err
		}
	}
	return nil
}
