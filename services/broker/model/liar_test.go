package model

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/vfs"
)

// liar is a disk that says that it has synced what it has not.
type liar struct {
	*vfs.Crashable
	file, dir func(name string) bool // whose syncs are not made
}

func (l liar) Open(name string) (vfs.File, error)   { return l.lie(name)(l.Crashable.Open(name)) }
func (l liar) Create(name string) (vfs.File, error) { return l.lie(name)(l.Crashable.Create(name)) }

func (l liar) lie(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil || l.file == nil || !l.file(name) {
			return f, err
		}
		return liarFile{f}, nil
	}
}

func (l liar) SyncDir(dir string) error {
	if l.dir != nil && l.dir(dir) {
		return nil
	}
	return l.Crashable.SyncDir(dir)
}

// SyncAll fails: it would cover up, and every log then syncs for itself.
func (l liar) SyncAll() error { return errors.New("not possible here") }

type liarFile struct{ vfs.File }

func (liarFile) Sync() error { return nil }

func (f liarFile) DropCache(off, n int64) error { return f.File.(vfs.CacheDropper).DropCache(off, n) }

// TestTheCheckerNoticesMissingSyncs: with any one kind of sync left out, some
// history fails, and soon; with none left out, the same disk passes.
func TestTheCheckerNoticesMissingSyncs(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const most = 60
	suffix := func(s string) func(string) bool {
		return func(name string) bool { return strings.HasSuffix(name, s) }
	}
	for name, lies := range map[string]liar{
		"nothing":             {},
		"records":             {file: suffix(".log")},
		"the journal":         {file: func(name string) bool { return strings.HasPrefix(name, "meta/journal") }},
		"snapshots":           {file: func(name string) bool { return strings.HasPrefix(name, "meta/snapshot") }},
		"checkpoints":         {file: suffix("/checkpoint.tmp")},
		"names of segments":   {dir: func(dir string) bool { return strings.HasPrefix(dir, "topics/") }},
		"names of partitions": {dir: func(dir string) bool { return dir == "topics" }},
		"names of journals":   {dir: func(dir string) bool { return dir == "meta" }},
		"compacted segments":  {file: suffix(".log.cleaned")},
	} {
		t.Run(name, func(t *testing.T) {
			wrap := func(c *vfs.Crashable) vfs.FS { return liar{c, lies.file, lies.dir} }
			for seed := uint64(1); seed <= most; seed++ {
				wrong, _ := run(t, seed, plan(seed), wrap)
				if wrong == "" {
					continue
				}
				if name == "nothing" {
					t.Fatalf("history %d fails on a disk that does not lie: %s", seed, wrong)
				}
				t.Logf("noticed in history %d: %s", seed, wrong)
				return
			}
			if name != "nothing" {
				t.Errorf("%d histories have passed", most)
			}
		})
	}
}
