package broker

import (
	"sync"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// How old, in time and in bytes written since, the known free space may get.
const (
	spaceAge   = time.Second
	spaceBytes = 4 << 20
)

// space keeps the last of the disk free of records, so that offsets can still
// be committed, topics deleted and the box administered when producers have
// filled it.
type space struct {
	disk    vfs.Spacer // nil: the file system does not know
	reserve int64

	mu      sync.Mutex
	free    int64
	total   int64
	asked   time.Time
	written int64 // since asked
	refused bool
}

func newSpace(fsys vfs.FS, reserve int64) *space {
	disk, _ := fsys.(vfs.Spacer)
	return &space{disk: disk, reserve: reserve}
}

// room reports whether records of n bytes may be written, and counts them.
func (s *space) room(n int64) bool {
	if s.disk == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written > spaceBytes || time.Since(s.asked) > spaceAge {
		s.ask()
	}
	s.refused = s.free-s.written-n < s.keep()
	if !s.refused {
		s.written += n
	}
	return !s.refused
}

// ask looks at the disk; when it does not answer, the writes themselves will
// tell.
func (s *space) ask() {
	free, total, err := s.disk.Space()
	if err != nil {
		free, total = 1<<62, 1<<62
	}
	s.free, s.total, s.asked, s.written = free, total, time.Now(), 0
}

// keep is the reserve, on a small disk a twentieth of it.
func (s *space) keep() int64 { return min(s.reserve, s.total/20) }

// full reports whether records were refused last, and how much is free.
func (s *space) full() (bool, int64) {
	if s.disk == nil {
		return false, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask()
	return s.refused && s.free < s.keep()+spaceBytes, s.free
}
