package secret

import (
	"log/slog"
	"os"
	"strings"
	"sync"
)

// Reloaded is what some files say, read again when they change. Files that are
// wrong leave what was read before, and are complained of once.
type Reloaded[T any] struct {
	paths []string
	load  func() (*T, error)
	log   *slog.Logger

	mu    sync.Mutex
	seen  []os.FileInfo // when they were read last, well or not
	value *T
}

// Reload reads the files the first time. With an error it still returns a
// Reloaded, whose value is the zero one until the files are right.
func Reload[T any](log *slog.Logger, load func() (*T, error), paths ...string) (*Reloaded[T], error) {
	r := &Reloaded[T]{paths: paths, load: load, log: log, seen: infos(paths)}
	var err error
	if r.value, err = load(); err != nil {
		r.value = new(T)
	}
	return r, err
}

// Get returns what the files say now.
func (r *Reloaded[T]) Get() *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := infos(r.paths)
	if same(r.seen, now) {
		return r.value
	}
	r.seen = now
	v, err := r.load()
	if err != nil {
		r.log.Error("changed files are not taken, the ones before stay in force", "files", strings.Join(r.paths, " "), "err", err)
		return r.value
	}
	r.value = v
	r.log.Info("changed files are in force", "files", strings.Join(r.paths, " "))
	return v
}

// infos describes files; nil stands for one that cannot be looked at.
func infos(paths []string) []os.FileInfo {
	out := make([]os.FileInfo, len(paths))
	for i, p := range paths {
		if fi, err := os.Stat(p); err == nil {
			out[i] = fi
		}
	}
	return out
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil:
			return false
		case !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || a[i].Mode() != b[i].Mode():
			return false
		}
	}
	return true
}
