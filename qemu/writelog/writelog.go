// Package writelog reads what a disk was asked to write, in order, and shows
// the disk as a power cut after any of it would have left it.
package writelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sort"
)

// Sector is the unit of everything here, in bytes.
const Sector = 512

// The format is that of Linux's dm-log-writes target, which QEMU's blklogwrites
// writes as well: a superblock of one sector, then for each request a sector
// that describes it, followed by its data. Integers are little endian.
const (
	magic   = 0x6a736677736872
	version = 1

	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	flagMark    = 8
)

// Entry is one request.
type Entry struct {
	Sector, Sectors int64
	Flush           bool // all that came before is on stable storage
	Durable         bool // so is this entry itself (FUA)
	Discard         bool // its sectors read as zeros, or as before
	at              int64
}

// Touches says whether the entry writes into the range, in bytes.
func (e Entry) Touches(start, size int64) bool {
	return e.Sectors > 0 && e.Sector*Sector < start+size && (e.Sector+e.Sectors)*Sector > start
}

// Log is a write log.
type Log struct {
	Entries []Entry
	data    io.ReaderAt
}

// Count reads how many entries a log has by now; it may still be written to.
func Count(r io.ReaderAt) (int, error) {
	var head [32]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return 0, fmt.Errorf("read the write log: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint64(head[:]) != magic || le.Uint64(head[8:]) != version || le.Uint32(head[24:]) != Sector {
		return 0, errors.New("read the write log: it is none of version 1 with sectors of 512 bytes")
	}
	return int(le.Uint64(head[16:])), nil
}

// Read reads the entries; r stays in use for their data.
func Read(r io.ReaderAt) (*Log, error) {
	n, err := Count(r)
	if err != nil {
		return nil, err
	}
	l := &Log{data: r}
	at := int64(Sector)
	for i := range n {
		var head [32]byte
		if _, err := r.ReadAt(head[:], at); err != nil {
			return nil, fmt.Errorf("read entry %d of the write log: %w", i, err)
		}
		le := binary.LittleEndian
		flags := le.Uint64(head[16:])
		e := Entry{
			Sector: int64(le.Uint64(head[:])), Sectors: int64(le.Uint64(head[8:])), at: at + Sector,
			Flush: flags&flagFlush != 0, Durable: flags&flagFUA != 0, Discard: flags&flagDiscard != 0,
		}
		length := int64(le.Uint64(head[24:]))
		if e.Sector < 0 || e.Sectors < 0 || length < 0 || flags&flagMark != 0 {
			return nil, fmt.Errorf("entry %d of the write log makes no sense: sector %d, %d sectors, flags %x", i, e.Sector, e.Sectors, flags)
		}
		at += Sector
		if !e.Discard {
			at += e.Sectors * Sector
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// Cut is a disk after a power cut.
type Cut struct {
	base io.ReaderAt
	log  io.ReaderAt
	over map[int64]int64 // by sector: where its content is in the log; -1 is zeros
}

// Replay walks a log from a disk that stood still before it.
type Replay struct {
	log     *Log
	base    io.ReaderAt
	next    int
	flushed map[int64]int64
	pending []change
}

type change struct{ sector, at int64 }

// NewReplay begins before the first entry.
func NewReplay(l *Log, base io.ReaderAt) *Replay {
	return &Replay{log: l, base: base, flushed: map[int64]int64{}}
}

// To goes on until n entries have been done.
func (r *Replay) To(n int) {
	for ; r.next < n; r.next++ {
		e := r.log.Entries[r.next]
		if e.Flush {
			for _, c := range r.pending {
				r.flushed[c.sector] = c.at
			}
			r.pending = r.pending[:0]
		}
		for i := range e.Sectors {
			c := change{e.Sector + i, e.at + i*Sector}
			if e.Discard {
				c.at = -1
			}
			if e.Durable {
				r.flushed[c.sector] = c.at
				continue
			}
			r.pending = append(r.pending, c)
		}
	}
}

// Pending is how many sectors are not flushed.
func (r *Replay) Pending() int { return len(r.pending) }

// Cut is the disk if the power went now. Of the sectors that were not flushed
// chance takes all, those up to some moment, or any; nil takes none.
func (r *Replay) Cut(rng *rand.Rand) *Cut {
	c := &Cut{base: r.base, log: r.log.data, over: maps.Clone(r.flushed)}
	if rng == nil {
		return c
	}
	keep := func(int) bool { return true }
	switch upTo := rng.IntN(len(r.pending) + 1); rng.IntN(3) {
	case 1:
		keep = func(i int) bool { return i < upTo }
	case 2:
		keep = func(int) bool { return rng.IntN(2) == 0 }
	}
	for i, p := range r.pending {
		if keep(i) {
			c.over[p.sector] = p.at
		}
	}
	return c
}

// ReadAt implements io.ReaderAt.
func (c *Cut) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.base.ReadAt(p, off)
	for s := off / Sector; s*Sector < off+int64(n); s++ {
		at, changed := c.over[s]
		if !changed {
			continue
		}
		var sector [Sector]byte
		if at >= 0 {
			if _, err := c.log.ReadAt(sector[:], at); err != nil {
				return 0, fmt.Errorf("read the write log: %w", err)
			}
		}
		from, to := max(s*Sector, off), min((s+1)*Sector, off+int64(n))
		copy(p[from-off:to-off], sector[from-s*Sector:])
	}
	return n, err
}

// Changes calls use for every sector of the range, in bytes, that is not as it
// was before the log, in order.
func (c *Cut) Changes(start, size int64, use func(off int64, sector []byte) error) error {
	for _, s := range c.sectors(start, size) {
		var b [Sector]byte
		if _, err := c.ReadAt(b[:], s*Sector); err != nil {
			return err
		}
		if err := use(s*Sector-start, b[:]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cut) sectors(start, size int64) []int64 {
	var out []int64
	for s := range c.over {
		if s*Sector >= start && s*Sector < start+size {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// Same tells two disks of one replay apart by what they hold in a range: equal
// answers are equal contents.
func (c *Cut) Same(start, size int64) string {
	b := []byte{}
	for _, s := range c.sectors(start, size) {
		b = binary.AppendVarint(b, s)
		b = binary.AppendVarint(b, c.over[s])
	}
	return string(b)
}
