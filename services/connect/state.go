package connect

import (
	"log/slog"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// Words of State.State, docs/connectors.md.
const (
	Starting = "starting" // it has not said anything yet
	Running  = "up"       // the device answers
	Troubled = "trouble"  // the device answers badly
	Down     = "down"     // the device is away; it is tried again
	Stopped  = "stopped"
)

// State is what the frame knows of one connector.
type State = manifest.Device

// state guards a State.
type state struct {
	mu  sync.Mutex
	s   State
	ups int // calls of up since Run was called
}

func (s *state) set(word, detail, problem string) {
	if s.s.State != word {
		s.s.State, s.s.Since = word, time.Now()
	}
	s.s.Detail, s.s.Error = detail, problem
}

func (s *state) up(detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ups++
	s.set(Running, detail, "")
}

// trouble logs an error when it is another than the last.
func (s *state) trouble(log *slog.Logger, err error) {
	s.mu.Lock()
	fresh := s.s.Error != err.Error()
	s.set(Troubled, s.s.Detail, err.Error())
	s.mu.Unlock()
	if fresh {
		log.Warn("device answers badly", "error", err)
	}
}

// down says how often in a row Run has ended without an Up in it.
func (s *state) down(log *slog.Logger, err error, tries int) int {
	s.mu.Lock()
	fresh := s.s.Error != err.Error()
	if s.ups > 0 {
		tries = 0
	}
	s.ups = 0
	s.s.Restarts++
	s.set(Down, "", err.Error())
	s.mu.Unlock()
	if fresh {
		log.Warn("device is lost, it is tried again", "error", err)
	}
	return tries + 1
}

// stuck is of a connector that cannot start, which is tried again; an error is
// logged when it is another than the last.
func (s *state) stuck(log *slog.Logger, err error) {
	s.mu.Lock()
	fresh := s.s.Error != err.Error()
	s.set(Down, "", err.Error())
	s.mu.Unlock()
	if fresh {
		log.Error("connector cannot start, it is tried again", "error", err)
	}
}

// unstuck is after that.
func (s *state) unstuck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(Starting, "", "")
}

// stopped leaves the last error to be read.
func (s *state) stopped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(Stopped, "", s.s.Error)
}

// silent says that neither an answer nor an error has come of the device.
func (s *state) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ups == 0 && s.s.Error == ""
}

func (s *state) count(records, bytes, dead int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Records += records
	s.s.Bytes += bytes
	s.s.Dead += dead
}

func (s *state) get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s
}

func (s *state) waits(spooled, kept, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Waiting, s.s.OnDisk = spooled, kept
	s.s.Dropped += dropped
}

func (s *state) lost(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Dropped += n
}
