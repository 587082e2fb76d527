// Package spool keeps records on disk, in order and within a bound, while the
// broker takes none; the format is docs/formats/spool.md.
package spool

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

// Spool is one connector's. Its methods are not for concurrent use.
//
// Records have numbers, from 0, which never come twice. Those from head on
// are kept, in segments; a segment whose records were all given to the broker
// is removed.
type Spool struct {
	fs   vfs.FS
	dir  string
	max  int64 // bytes of all segments
	each int64 // bytes of one, about

	segs []*segment // oldest first; the last is written to if out is open
	out  vfs.File   // nil: the next append begins a segment
	head uint64     // first record that the broker does not have
	next uint64     // number of the next record
	at   cursor     // where reading goes on
}

// segment is a file of records in a row.
type segment struct {
	first uint64
	count uint64
	size  int64 // bytes of whole records and the header
}

func (s *segment) end() uint64 { return s.first + s.count }

// cursor is a place to read from: record number and its offset in a segment.
type cursor struct {
	number uint64
	offset int64
}

const (
	suffix      = ".spool"
	asideSuffix = ".unreadable"
	headFile    = "head"
	segments    = 8 // that a full spool has: dropping one loses that part of it
)

// Len is how many records wait.
func (s *Spool) Len() int64 {
	var n uint64
	for _, seg := range s.segs {
		if seg.end() > s.head {
			n += seg.end() - max(seg.first, s.head)
		}
	}
	return int64(n)
}

// Head is the number of the first record that waits, Next that of the next to
// be appended.
func (s *Spool) Head() uint64 { return s.head }
func (s *Spool) Next() uint64 { return s.next }

// Append writes records behind those that wait and syncs them. To keep within
// the bound it drops the oldest, whose number it returns. After an error none
// of rs is kept, and appending goes on in a new segment.
func (s *Spool) Append(rs []*kgo.Record) (dropped int64, err error) {
	for len(rs) > 0 {
		var lot []byte
		n := 0
		for n < len(rs) && (n == 0 || int64(len(lot)) < s.each) {
			lot = appendRecord(lot, rs[n])
			n++
		}
		d, err := s.makeRoom(int64(len(lot)))
		dropped += d
		if err == nil {
			err = s.write(lot, n)
		}
		if err != nil {
			return dropped, fmt.Errorf("write spool: %w", err)
		}
		rs = rs[n:]
	}
	return dropped, nil
}

func (s *Spool) write(lot []byte, n int) error {
	if s.out == nil || s.last().size+int64(len(lot)) > s.each && s.last().count > 0 {
		if err := s.begin(); err != nil {
			return err
		}
	}
	seg := s.last()
	_, err := s.out.WriteAt(lot, seg.size)
	if err == nil {
		err = s.out.Sync()
	}
	if err != nil {
		// What a failed sync has left is unknown. Records of this segment
		// before it are read as they are; nothing more goes into it.
		s.closeOut()
		if seg.count == 0 {
			s.segs = s.segs[:len(s.segs)-1]
			_ = s.remove(seg.first)
		}
		return err
	}
	seg.size += int64(len(lot))
	seg.count += uint64(n)
	s.next += uint64(n)
	return nil
}

func (s *Spool) last() *segment { return s.segs[len(s.segs)-1] }

// begin makes a segment for what comes.
func (s *Spool) begin() error {
	s.closeOut()
	f, err := s.fs.Create(s.path(s.next))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(header(s.next), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		f.Close()
		_ = s.remove(s.next)
		return err
	}
	s.out = f
	s.segs = append(s.segs, &segment{first: s.next, size: headerSize})
	return nil
}

func (s *Spool) closeOut() {
	if s.out != nil {
		s.out.Close()
		s.out = nil
	}
}

// makeRoom drops the oldest segments until n more bytes fit.
func (s *Spool) makeRoom(n int64) (dropped int64, err error) {
	for s.size()+n > s.max && len(s.segs) > 0 {
		old := s.segs[0]
		if len(s.segs) == 1 {
			s.closeOut()
		}
		if old.end() > s.head {
			dropped += int64(old.end() - max(old.first, s.head))
			s.head = old.end()
		}
		s.segs = s.segs[1:]
		if err := s.remove(old.first); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

func (s *Spool) size() int64 {
	var n int64
	for _, seg := range s.segs {
		n += seg.size
	}
	return n
}

// Done says that the broker has every record before number.
func (s *Spool) Done(number uint64) error {
	if number <= s.head {
		return nil
	}
	s.head = min(number, s.next)
	return s.trim()
}

// Skip gives up what cannot be read any more: from the head to the end of its
// segment. It returns how many records that were.
func (s *Spool) Skip() (lost int64, err error) {
	if len(s.segs) == 0 {
		return 0, nil
	}
	seg := s.segs[0]
	lost = int64(seg.end() - max(seg.first, s.head))
	return lost, s.Done(seg.end())
}

// trim removes segments that nobody needs.
func (s *Spool) trim() error {
	for len(s.segs) > 0 && s.segs[0].end() <= s.head {
		old := s.segs[0]
		if len(s.segs) == 1 {
			s.closeOut()
		}
		s.segs = s.segs[1:]
		if err := s.remove(old.first); err != nil {
			return fmt.Errorf("trim spool: %w", err)
		}
	}
	return nil
}

// Save keeps head on disk: without it a restart begins at the start of a
// segment, and what the broker has of it comes twice.
func (s *Spool) Save() error {
	if len(s.segs) == 0 && s.head == 0 {
		return nil
	}
	if err := vfs.WriteWhole(s.fs, s.dir+"/"+headFile, encodeHead(s.head)); err != nil {
		return fmt.Errorf("save position of spool: %w", err)
	}
	return nil
}

// Close closes files; what waits stays.
func (s *Spool) Close() error {
	err := s.Save()
	s.closeOut()
	return err
}

func (s *Spool) path(first uint64) string {
	return fmt.Sprintf("%s/%016x%s", s.dir, first, suffix)
}

func (s *Spool) remove(first uint64) error {
	if err := s.fs.Remove(s.path(first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Read returns the records that wait from number on: as many as have most
// bytes together, and one at least. number must be Head or what an earlier
// Read came to; records dropped meanwhile are passed over, and first is the
// number of the first that is returned.
func (s *Spool) Read(number uint64, most int64) (rs []*kgo.Record, first uint64, err error) {
	number = max(number, s.head)
	for _, seg := range s.segs {
		if seg.end() <= number {
			continue
		}
		number = max(number, seg.first) // what lies between two segments was lost
		return s.readFrom(seg, number, most)
	}
	return nil, s.next, nil
}

func (s *Spool) readFrom(seg *segment, number uint64, most int64) ([]*kgo.Record, uint64, error) {
	f, err := s.fs.Open(s.path(seg.first))
	if err != nil {
		return nil, number, fmt.Errorf("open spool: %w", err)
	}
	defer f.Close()
	r, err := newReader(f, seg.first)
	if err != nil && !errors.Is(err, errDamaged) { // Open has judged the header
		return nil, number, fmt.Errorf("read spool: %w", err)
	}
	n := seg.first
	if s.at.number > seg.first && s.at.number <= number {
		n, r.off = s.at.number, s.at.offset
	}
	var rs []*kgo.Record
	for total := int64(0); n < seg.end() && total < most; n++ {
		rec, size, err := r.next()
		if err != nil {
			return rs, number, fmt.Errorf("read spool: %w", err)
		}
		if n >= number {
			rs = append(rs, rec)
			total += size
		}
	}
	s.at = cursor{n, r.off}
	return rs, number, nil
}
