package spool

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/vfs"
)

// Open reads what an earlier run has left in folder dir, which it makes. What
// a power cut tore is left out; lost counts damaged segments, of which only
// the part before the damage is kept, and those that the disk does not read.
func Open(fsys vfs.FS, dir string, bound int64) (s *Spool, lost int, err error) {
	s = &Spool{fs: fsys, dir: dir, max: bound, each: bound / segments}
	if err := makeFolder(fsys, dir); err != nil {
		return nil, 0, fmt.Errorf("make folder of spool: %w", err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("list spool: %w", err)
	}
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		first, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || len(digits) != 16 {
			continue
		}
		bad, err := s.adopt(first)
		if err != nil {
			// One sector that the disk does not give back, and the connector
			// would never start again.
			if !Damaged(err) || s.setAside(first) != nil {
				return nil, 0, err
			}
			bad = true
		}
		if bad {
			lost++
		}
	}
	s.next = s.head
	if len(s.segs) > 0 {
		s.head, s.next = s.segs[0].first, s.segs[len(s.segs)-1].end()
	}
	if head, ok := s.readHead(); ok && head > s.head {
		s.head, s.next = head, max(head, s.next)
	}
	s.at = cursor{}
	return s, lost, s.trim()
}

// makeFolder makes a folder that a power cut does not take away.
func makeFolder(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for ; ; dir = path.Dir(dir) {
		if err := fsys.SyncDir(dir); err != nil || dir == "." {
			return err
		}
	}
}

// adopt learns a segment. One without a whole record is removed; damaged says
// that it had more once. Where a failed write left more in a segment than was
// said to be kept, the next segment, which begins earlier, is right.
func (s *Spool) adopt(first uint64) (damaged bool, err error) {
	f, err := s.fs.Open(s.path(first))
	if err != nil {
		return false, fmt.Errorf("open spool: %w", err)
	}
	defer f.Close()
	if err := vfs.Distrust(f, 0, false); err != nil {
		return false, fmt.Errorf("read spool: %w", err)
	}
	seg := &segment{first: first, size: headerSize}
	r, headerErr := newReader(f, first)
	if headerErr != nil && !errors.Is(headerErr, errDamaged) {
		return false, fmt.Errorf("read spool: %w", headerErr)
	}
	for {
		_, n, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if damaged = errors.Is(err, errDamaged); damaged {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read spool: %w", err)
		}
		seg.count++
		seg.size += n
	}
	damaged = damaged || headerErr != nil && seg.count > 0
	if seg.count == 0 {
		return damaged, s.remove(first)
	}
	if n := len(s.segs); n > 0 && first < s.segs[n-1].end() {
		s.segs[n-1].count = first - s.segs[n-1].first
	}
	s.segs = append(s.segs, seg)
	return damaged, nil
}

// setAside keeps a segment that cannot be read, under a name that stands in
// nobody's way.
func (s *Spool) setAside(first uint64) error {
	if err := s.fs.Rename(s.path(first), s.path(first)+asideSuffix); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

func (s *Spool) readHead() (uint64, bool) {
	f, err := s.fs.Open(s.dir + "/" + headFile)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	b := make([]byte, headSize)
	if n, _ := f.ReadAt(b, 0); n != headSize {
		return 0, false
	}
	return decodeHead(b)
}
