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
	"syscall"

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
// beyond compactAt bytes; 0 means CompactAt. Damage never makes it fail: what
// can be read is in force, and Lost and Repairs say what is not.
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
	if err := j.restore(gen); err != nil {
		return nil, err
	}
	if gen, err = j.loadJournals(gen); err != nil {
		return nil, err
	}
	j.limit = max(j.compactAt, j.size)
	if len(j.lost) > 0 {
		m.Lost(strings.Join(j.lost, "; "))
	}
	return j, j.repair(gen)
}

func (j *Journal) name(kind string, gen uint64) string {
	return path.Join(j.dir, fmt.Sprintf("%s-%010d", kind, gen))
}

// newest finds the generation in force: that of the newest snapshot, or 0.
// Where neither is there, all snapshots are gone, and the oldest journal is the
// most that is left.
func (j *Journal) newest() (gen uint64, found bool, err error) {
	entries, err := j.fsys.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("list journal: %v", err)
	}
	var left []uint64
	for _, e := range entries {
		kind, n, ok := parseName(e.Name())
		switch {
		case !ok:
		case kind == "snapshot":
			gen, found = max(gen, n), true
		case n == 0:
			found = true
		default:
			left = append(left, n)
		}
	}
	if !found && len(left) > 0 {
		return slices.Min(left), true, nil
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

// restore puts the state before journal gen into the machine. When the
// snapshot is damaged, the one before it and that one's journal say the same.
func (j *Journal) restore(gen uint64) error {
	if gen == 0 {
		return nil
	}
	name := j.name("snapshot", gen)
	b, err := j.read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at := damagedAt(b)
	if at < 0 {
		j.salvage(name, b)
		return nil
	}
	if _, err := frame.CheckHeader(b, snapshotKind, version); errors.Is(err, frame.ErrNewer) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	j.damaged = append(j.damaged, name)
	journal, older := j.has("journal", gen-1), gen == 1 || j.has("snapshot", gen-1)
	if journal && older {
		j.noteRepair("%s is damaged at byte %d; the one before it and its journal are used", name, at)
	} else {
		j.noteLost("%s is damaged at byte %d, and there is no older one", name, at)
	}
	if older {
		if err := j.restore(gen - 1); err != nil {
			return err
		}
	}
	if journal {
		if err := j.replayOlder(gen - 1); err != nil {
			return err
		}
	}
	if len(j.lost) > 0 {
		j.salvage(name, b) // it is newer than what those have
	}
	return nil
}

// damagedAt returns where a snapshot is not whole; -1 when it is.
func damagedAt(b []byte) int {
	if _, err := frame.CheckHeader(b, snapshotKind, version); err != nil {
		return 0
	}
	for rest := b[frame.HeaderSize:]; ; {
		payload, next, err := frame.Next(rest)
		switch {
		case err != nil || payload == nil:
			return len(b) - len(rest)
		case bytes.Equal(payload, end) && len(next) == 0:
			return -1
		case bytes.Equal(payload, end):
			return len(b) - len(next)
		}
		rest = next
	}
}

func (j *Journal) has(kind string, gen uint64) bool {
	f, err := j.fsys.Open(j.name(kind, gen))
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// read reads a file from the disk itself: after a failed sync the page cache
// may hold what the disk does not.
func (j *Journal) read(name string) ([]byte, error) {
	f, err := j.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	vfs.Distrust(f, 0, false)
	b, err := frame.ReadAll(f)
	if errors.Is(err, syscall.EIO) {
		return j.readAround(name, f)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", name, err)
	}
	return b, nil
}

// loadJournals replays the journal of gen and goes on with it. A later one
// that holds changes was in force too: its snapshot has gone.
func (j *Journal) loadJournals(gen uint64) (uint64, error) {
	for j.has("journal", gen+1) {
		b, err := j.read(j.name("journal", gen+1))
		if err != nil {
			return gen, err
		}
		if len(b) <= frame.HeaderSize {
			break // left from a snapshot that was not finished
		}
		j.noteRepair("%s is missing; the one before it and its journal are used", j.name("snapshot", gen+1))
		if err := j.replayOlder(gen); err != nil {
			return gen, err
		}
		gen++
	}
	return gen, j.loadJournal(gen)
}

// loadJournal replays the journal of gen, cuts its torn tail, and goes on
// with it.
func (j *Journal) loadJournal(gen uint64) error {
	name := j.name("journal", gen)
	size, err := j.replay(name)
	if err != nil {
		return err
	}
	if size == 0 {
		// The header is synced before the first change is taken, so a file
		// without one has never held any.
		if err := j.fresh(gen); err != nil {
			return err
		}
		return j.fsys.SyncDir(j.dir)
	}
	j.gen, j.size = gen, size
	if j.f, err = j.fsys.Open(name); err != nil {
		return fmt.Errorf("open %s: %v", name, err)
	}
	return j.settleTail(name)
}

// replay applies what a journal holds and returns how much of it that was, in
// bytes; 0 when it never held anything. Damage is passed over: changes that
// wait for one sync do not build on each other, so those behind it stand by
// themselves.
func (j *Journal) replay(name string) (int64, error) {
	b, err := j.read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	pos, err := j.begin(name, b)
	if err != nil || pos == 0 {
		return 0, err
	}
	for size := pos; ; size = pos {
		payload, rest, err := frame.Next(b[pos:])
		if err != nil {
			at := frame.Find(b[pos:])
			if at < 0 {
				j.cut += int64(len(b) - size)
				return int64(size), nil
			}
			j.noteRepair("%s: %d bytes at %d are damaged and passed over; the changes in them are lost unless they were never acknowledged", name, at, pos)
			j.keepCopy(name, b)
			pos += at
			continue
		}
		if payload == nil {
			return int64(size), nil
		}
		if err := j.m.Apply(payload); err != nil {
			j.noteLost("%s: the change at %d means nothing: %v", name, pos, err)
			j.keepCopy(name, b)
		}
		pos = len(b) - len(rest)
	}
}

// begin returns where a journal's frames begin; its end when it is garbage, and
// 0 when it never held any.
func (j *Journal) begin(name string, b []byte) (int, error) {
	_, err := frame.CheckHeader(b, journalKind, version)
	switch {
	case err == nil:
		return frame.HeaderSize, nil
	case errors.Is(err, frame.ErrNewer):
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) <= frame.HeaderSize {
		return 0, nil // the header is durable before anything else is written
	}
	at := frame.Find(b)
	if at < 0 { // it is set aside when the state is written anew
		j.noteLost("%s is garbage from its first byte: %v", name, err)
		j.damaged = append(j.damaged, name)
		return len(b), nil
	}
	j.noteRepair("%s: its header is damaged", name)
	j.keepCopy(name, b)
	return at, nil
}

// settleTail makes durable what was replayed: after a kill it may have been
// in the page cache only, and it is served from now on.
func (j *Journal) settleTail(name string) error {
	if j.cut > 0 {
		if err := j.f.Truncate(j.size); err != nil {
			return fmt.Errorf("cut %s: %w", name, err)
		}
	}
	if err := vfs.Settle(j.f, j.size, false); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}
