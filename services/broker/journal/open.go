package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// Kinds and versions of the two files.
const (
	journalKind  = "WAYSJRNL"
	snapshotKind = "WAYSSNAP"
	version      = 1
)

// end closes a snapshot; without it a snapshot is not whole.
var end = []byte("end of snapshot")

// Open replays dir into m, which must be empty, and makes what is missing.
// dir's parent must exist. A snapshot is taken when the journal has grown
// beyond compactAt bytes; 0 means CompactAt.
func Open(fsys vfs.FS, dir string, m Machine, compactAt int64) (*Journal, error) {
	if compactAt == 0 {
		compactAt = CompactAt
	}
	j := &Journal{fsys: fsys, dir: dir, m: m, compactAt: compactAt}
	gen, found, err := j.newest()
	if err != nil {
		return nil, err
	}
	if !found {
		return j, j.create()
	}
	if gen > 0 {
		if err := j.loadSnapshot(gen); err != nil {
			return nil, err
		}
	}
	if err := j.loadJournal(gen); err != nil {
		return nil, err
	}
	j.limit = max(j.compactAt, j.size)
	return j, j.tidy(gen)
}

func (j *Journal) name(kind string, gen uint64) string {
	return path.Join(j.dir, fmt.Sprintf("%s-%010d", kind, gen))
}

// newest finds the generation in force: that of the newest snapshot, or 0.
func (j *Journal) newest() (gen uint64, found bool, err error) {
	entries, err := j.fsys.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("list journal: %v", err)
	}
	for _, e := range entries {
		kind, n, ok := parseName(e.Name())
		switch {
		case !ok:
		case kind == "snapshot":
			gen, found = max(gen, n), true
		case n == 0:
			found = true
		}
	}
	return gen, found, nil
}

func parseName(s string) (kind string, gen uint64, ok bool) {
	kind, num, _ := strings.Cut(s, "-")
	gen, err := strconv.ParseUint(num, 10, 64)
	return kind, gen, err == nil && (kind == "journal" || kind == "snapshot")
}

// create makes generation 0. Its parent is synced too: the directory is new.
func (j *Journal) create() error {
	if err := j.fsys.MkdirAll(j.dir); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	if err := j.fsys.SyncDir(path.Dir(j.dir)); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	j.limit = j.compactAt
	if err := j.fresh(0); err != nil {
		return err
	}
	return j.fsys.SyncDir(j.dir)
}

// fresh makes an empty journal file the current one.
func (j *Journal) fresh(gen uint64) error {
	name := j.name("journal", gen)
	f, err := j.fsys.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.WriteAt(frame.Header(journalKind, version), 0)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("create %s: %w", name, err)
	}
	j.f, j.gen, j.size = f, gen, frame.HeaderSize
	return nil
}

// start moves to generation gen: snapshot under a temporary name, empty
// journal, rename, directory sync. Only then is the old pair removed, so that
// one whole pair is there at every instant.
func (j *Journal) start(gen uint64) error {
	data := frame.Header(snapshotKind, version)
	err := j.m.Snapshot(func(p []byte) { data = frame.Append(data, p) })
	if err != nil {
		return fmt.Errorf("take snapshot: %v", err)
	}
	data = frame.Append(data, end)
	tmp := j.name("snapshot", gen) + ".tmp"
	if err := frame.WriteSynced(j.fsys, tmp, data); err != nil {
		return err
	}
	f, oldGen, size := j.f, j.gen, j.size // to go back to
	j.f = nil
	err = j.fresh(gen)
	if err == nil {
		err = j.fsys.Rename(tmp, j.name("snapshot", gen))
	}
	if err == nil {
		err = j.fsys.SyncDir(j.dir)
	}
	if err != nil {
		return j.back(f, oldGen, size, err)
	}
	f.Close()
	j.limit = max(j.compactAt, 2*int64(len(data)))
	return j.tidy(gen)
}

// back returns to the old generation when the new one could not be started.
// Once the rename may have happened that is unsafe: a restart could find the
// new snapshot and pass over what the old journal gets from now on.
func (j *Journal) back(f vfs.File, gen uint64, size int64, err error) error {
	if j.f != nil {
		j.f.Close()
	}
	j.f, j.gen, j.size = f, gen, size
	if _, e := j.fsys.Open(j.name("snapshot", gen+1)); !errors.Is(e, fs.ErrNotExist) {
		j.fail(err)
	}
	return err
}

// tidy removes every generation but gen. What cannot be removed is left.
func (j *Journal) tidy(gen uint64) error {
	entries, err := j.fsys.ReadDir(j.dir)
	if err != nil {
		return fmt.Errorf("list journal: %v", err)
	}
	for _, e := range entries {
		_, n, ok := parseName(e.Name())
		if (ok && n != gen) || strings.HasSuffix(e.Name(), ".tmp") {
			j.fsys.Remove(path.Join(j.dir, e.Name()))
		}
	}
	return nil
}

func (j *Journal) loadSnapshot(gen uint64) error {
	name := j.name("snapshot", gen)
	b, err := frame.ReadFile(j.fsys, name)
	if err != nil {
		return fmt.Errorf("read %s: %v", name, err)
	}
	if _, err := frame.CheckHeader(b, snapshotKind, version); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	last, rest, err := replay(b[frame.HeaderSize:], j.m)
	if err != nil {
		return fmt.Errorf("replay %s: %v", name, err)
	}
	if !last || len(rest) > 0 {
		return fmt.Errorf("read %s: damaged at byte %d; restore it from a backup", name, len(b)-len(rest))
	}
	return nil
}

// loadJournal replays the journal of gen and cuts its torn tail.
func (j *Journal) loadJournal(gen uint64) error {
	name := j.name("journal", gen)
	b, err := frame.ReadFile(j.fsys, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %v", name, err)
	}
	if unwritten(b) {
		// The header is synced before the first change is taken, so a file
		// without one has never held any.
		if err := j.fresh(gen); err != nil {
			return err
		}
		return j.fsys.SyncDir(j.dir)
	}
	if _, err := frame.CheckHeader(b, journalKind, version); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	_, rest, err := replay(b[frame.HeaderSize:], j.m)
	if err != nil {
		return fmt.Errorf("replay %s: %v", name, err)
	}
	j.gen, j.size, j.cut = gen, int64(len(b)-len(rest)), int64(len(rest))
	if j.f, err = j.fsys.Open(name); err != nil {
		return fmt.Errorf("open %s: %v", name, err)
	}
	return j.settleTail(name)
}

// settleTail makes durable what was replayed: after a kill it may have been
// in the page cache only, and it is served from now on.
func (j *Journal) settleTail(name string) error {
	if j.cut > 0 {
		if err := j.f.Truncate(j.size); err != nil {
			return fmt.Errorf("cut %s: %w", name, err)
		}
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}

func unwritten(b []byte) bool {
	head := b[:min(len(b), frame.HeaderSize)]
	return len(head) < frame.HeaderSize || !slices.ContainsFunc(head, func(c byte) bool { return c != 0 })
}

// replay applies frames until the end or a torn one, which begins rest.
// last reports whether the snapshot's end mark was met.
func replay(b []byte, m Machine) (last bool, rest []byte, err error) {
	for {
		payload, next, err := frame.Next(b)
		switch {
		case err != nil:
			return false, b, nil
		case payload == nil:
			return false, nil, nil
		case bytes.Equal(payload, end):
			return true, next, nil
		}
		if err := m.Apply(payload); err != nil {
			return false, b, err
		}
		b = next
	}
}
