package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// repeatAfter is how often one and the same message is worth a line: a
// client whose cluster is away says so several times a second, for days.
const repeatAfter = time.Minute

// logger writes franz-go's messages to slog: its errors and warnings as
// warnings, its infos as debug messages, the rest nowhere. A warning repeated
// within a minute becomes a debug message.
type logger struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time // message, without its values, to when it was last a warning
}

var _ kgo.Logger = (*logger)(nil)

// newLogger returns a bridge to log; nil discards.
func newLogger(log *slog.Logger) *logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &logger{log: log, now: time.Now, last: map[string]time.Time{}}
}

// Level implements kgo.Logger.
func (l *logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log implements kgo.Logger.
func (l *logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level <= kgo.LogLevelWarn && l.fresh(msg) {
		to = slog.LevelWarn
	}
	l.log.Log(context.Background(), to, msg, keyvals...)
}

func (l *logger) fresh(msg string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if at, seen := l.last[msg]; seen && now.Sub(at) < repeatAfter {
		return false
	}
	if len(l.last) > 100 { // messages are constants in franz-go, all but a few
		clear(l.last)
	}
	l.last[msg] = now
	return true
}
