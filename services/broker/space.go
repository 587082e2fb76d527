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
	// shareBytes is how much is written between two looks at the share of the
	// disk that records may take.
	shareBytes = 64 << 20
	// tellAgain is how soon somebody looks for room again while records are
	// being refused.
	tellAgain = 50 * time.Millisecond
)

// space keeps the last of the disk free of records, so that offsets can still
// be committed, topics deleted and the box administered when producers have
// filled it. Before that happens it asks for old records to be dropped.
type space struct {
	disk    vfs.Spacer // nil: the file system does not know
	reserve int64
	// short is sent to when somebody should see whether there is room.
	short chan struct{}

	mu       sync.Mutex
	free     int64
	total    int64
	asked    time.Time
	told     time.Time // when short was sent to last
	written  int64     // since asked
	unshared int64     // since told
	refused  bool
}

func newSpace(fsys vfs.FS, reserve int64) *space {
	disk, _ := fsys.(vfs.Spacer)
	return &space{disk: disk, reserve: reserve, short: make(chan struct{}, 1)}
}

// readerRoom is the most that is left free for who makes room by reading: what
// it writes on this disk meanwhile, as summaries are, would else find it full.
const readerRoom = 2 << 20

// room reports whether records of n bytes may be written, and counts them.
// gives is true for a topic whose records give way to its reader.
func (s *space) room(n int64, gives bool) bool {
	if s.disk == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written > spaceBytes || time.Since(s.asked) > spaceAge {
		s.ask()
	}
	keep := s.keep()
	if gives {
		keep += min(keep/2, readerRoom)
	}
	s.refused = s.free-s.written-n < keep
	if !s.refused {
		s.written += n
		s.unshared += n
	}
	switch {
	case s.unshared > shareBytes, s.refused && time.Since(s.told) > tellAgain, s.wanted() > 0 && s.told.Before(s.asked):
		s.tell()
	}
	return !s.refused
}

// tell wakes who makes room.
func (s *space) tell() {
	s.unshared, s.told = 0, time.Now()
	select {
	case s.short <- struct{}{}:
	default:
	}
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

// wanted is how much should be dropped so that producers are not refused: as
// much again as the reserve is kept free where something may be dropped.
func (s *space) wanted() int64 { return 2*s.keep() - (s.free - s.written) }

// excess is how many bytes of old records should go: to leave room, and to
// have logs of that size within percent of the disk.
func (s *space) excess(logs, percent int64) int64 {
	if s.disk == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask()
	return max(0, s.wanted(), logs-s.total/100*percent)
}

// usable is how much records may still take, and the size of the disk; -1 for
// what is not known.
func (s *space) usable() (usable, total int64) {
	if s.disk == nil {
		return -1, -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask()
	return max(0, s.free-s.keep()), s.total
}

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
