package share

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// saver writes what has changed: one write at a time, each with the newest
// state of all partitions that changed meanwhile, so that states of one are in
// order and many acknowledgements share a sync.
type saver struct {
	m  *Manager
	wg sync.WaitGroup

	mu      sync.Mutex
	dirty   map[*partition]bool
	now     map[*partition]bool // being written
	waiting []chan error
	writing bool
	closed  bool
}

// note has a partition written.
func (s *saver) note(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty == nil {
		s.dirty = map[*partition]bool{}
	}
	s.dirty[p] = true
	s.begin()
}

// holds reports whether what the disk knows of a partition is not the newest.
func (s *saver) holds(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty[p] || s.now[p]
}

// settled tells when all that was noted is durable, or why that failed.
func (s *saver) settled() <-chan error {
	ch := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		ch <- kerr.CoordinatorNotAvailable
	case len(s.dirty) == 0 && !s.writing:
		ch <- nil
	default:
		s.waiting = append(s.waiting, ch)
		s.begin()
	}
	return ch
}

func (s *saver) begin() {
	if s.writing || s.closed {
		return
	}
	s.writing = true
	s.wg.Go(s.run)
}

// run writes until there is nothing to write, or it fails: what is not written
// then is kept, and written with what comes next.
func (s *saver) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for err := error(nil); err == nil && len(s.dirty)+len(s.waiting) > 0; {
		dirty, waiting := s.dirty, s.waiting
		s.dirty, s.now, s.waiting = nil, dirty, nil
		s.mu.Unlock()
		err = s.write(dirty)
		s.mu.Lock()
		s.now = nil
		if err != nil {
			s.m.Log.Error("write how far share groups have come", "err", err)
			for p := range s.dirty {
				dirty[p] = true
			}
			s.dirty = dirty
			waiting, s.waiting = append(waiting, s.waiting...), nil
		}
		for _, ch := range waiting {
			ch <- err
		}
		s.mu.Unlock()
		s.m.tidyAll(dirty)
		s.mu.Lock()
	}
	s.writing = false
}

// saveBatch is how many bytes of states one change holds, roughly.
const saveBatch = 1 << 20

func (s *saver) write(dirty map[*partition]bool) error {
	var batch []meta.SharePartition
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := s.m.Meta.PutShares(batch)
		batch, size = nil, 0
		return err
	}
	for p := range dirty {
		kept := p.kept()
		batch = append(batch, kept)
		if size += 200 + 8*len(kept.Runs); size < saveBatch {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return flush()
}

// close waits for the write under way.
func (s *saver) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}
