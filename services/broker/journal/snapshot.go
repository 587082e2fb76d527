package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// start moves to generation gen: snapshot under a temporary name, read back
// from the disk, empty journal, rename, directory sync. Only then is the pair
// before the old one removed: the old pair stays as a second copy of the
// state, and one whole pair is there at every instant.
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
	if err := j.prove(tmp, data); err != nil {
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

// prove compares a file with what the disk says that it holds.
func (j *Journal) prove(name string, want []byte) error {
	f, err := j.fsys.Open(name)
	if err != nil {
		return fmt.Errorf("read %s back: %w", name, err)
	}
	defer f.Close()
	vfs.Distrust(f, 0, true)
	buf := make([]byte, 64<<10)
	for off := 0; off < len(want); {
		n, err := f.ReadAt(buf[:min(len(buf), len(want)-off)], int64(off))
		if n == 0 || !bytes.Equal(buf[:n], want[off:off+n]) {
			return fmt.Errorf("read %s back at %d: it is not what was written: %v", name, off, err)
		}
		off += n
	}
	return nil
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

// tidy removes every generation but gen and the one before it. What cannot be
// removed is left.
func (j *Journal) tidy(gen uint64) error {
	entries, err := j.fsys.ReadDir(j.dir)
	if err != nil {
		return fmt.Errorf("list journal: %v", err)
	}
	for _, e := range entries {
		_, n, ok := parseName(e.Name())
		if slices.Contains(j.damaged, path.Join(j.dir, e.Name())) {
			continue // it is set aside
		}
		if (ok && n != gen && n+1 != gen) || strings.HasSuffix(e.Name(), ".tmp") {
			j.fsys.Remove(path.Join(j.dir, e.Name()))
		}
	}
	return nil
}

const damagedExt = ".damaged"

// maxRepairs bounds what is told of one damaged file.
const maxRepairs = 20

func (j *Journal) noteRepair(format string, args ...any) {
	if len(j.repairs) < maxRepairs {
		j.repairs = append(j.repairs, fmt.Sprintf(format, args...))
	}
	j.repaired = true
}

// keepCopy keeps a damaged journal for whoever wants to look, if there is
// room.
func (j *Journal) keepCopy(name string, b []byte) {
	if j.copied != name {
		j.copied = name
		frame.WriteFile(j.fsys, name+damagedExt, b)
	}
}

// repair writes the state anew when damage was found, and sets aside what was
// damaged. Until that succeeds nothing of it is touched: the next start finds
// the same again.
func (j *Journal) repair(gen uint64) error {
	if !j.repaired {
		return j.tidy(gen)
	}
	if err := j.start(gen + 1); err != nil {
		return j.broken
	}
	for _, name := range j.damaged {
		j.fsys.Rename(name, name+damagedExt)
	}
	return nil
}

// Repairs are what Open had to say of damage that it got over.
func (j *Journal) Repairs() []string { return j.repairs }
