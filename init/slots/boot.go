package slots

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
)

// Candidate is a kernel image that waits to be tried.
type Candidate struct {
	Image   Image
	Content io.ReaderAt
	Size    int64
	SHA256  [sha256.Size]byte
	Now     time.Time // of the file on the boot partition
}

// Partition is the boot partition of a systemd-boot board and what is known of
// this boot. Its methods are those of Store.
type Partition struct {
	ESP      func(use func(d gpt.Disk, size int64) error) error
	Running  string // Words.RunningFile
	RootHash string // hex, of the running root
}

// open gives the volume and what is on it to use.
func (p Partition) open(use func(v *fat.Volume, b *Boot) error) error {
	return p.ESP(func(d gpt.Disk, size int64) error {
		v, err := fat.Open(d, size)
		if err != nil {
			return err
		}
		b, err := p.look(v)
		if err != nil {
			return err
		}
		return use(v, b)
	})
}

// Look implements Store.
func (p Partition) Look() (b *Boot, err error) {
	err = p.open(func(_ *fat.Volume, found *Boot) error { b = found; return nil })
	return b, err
}

func (p Partition) look(v *fat.Volume) (*Boot, error) {
	files, err := v.List(layout.ESPUKIDir)
	if err != nil {
		return nil, err
	}
	b := &Boot{Free: v.Free()}
	groups, err := v.Twins(layout.ESPUKIDir)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		for _, f := range second(g) {
			b.twins = append(b.twins, op{kind: opForget, file: f})
			files = slices.DeleteFunc(files, func(o fat.File) bool { return o.Name == f })
		}
	}
	for _, f := range files {
		e, is := parseEntry(f.Name)
		if f.Folder || !is {
			continue
		}
		e.Size = f.Size
		r, err := v.Read(f)
		if err == nil {
			e.Image, err = ReadImage(r)
		}
		if err != nil {
			e.Broken = err.Error()
		}
		b.Entries = append(b.Entries, e)
	}
	b.sort()
	b.Running = p.running(b.Entries)
	return b, nil
}

// sort brings the entries into the loader's order, what it passes over last.
func (b *Boot) sort() {
	sorted := order(b.Entries)
	for _, e := range b.Entries {
		if e.Broken != "" {
			sorted = append(sorted, e)
		}
	}
	b.Entries = sorted
}

// second names those of several names of one content that are not to stay.
// An interrupted change has begun with the one that stays: it is the one
// without a counter, or the one that was tried more often.
func second(twins []fat.File) []string {
	rank := func(f fat.File) int {
		e, _ := parseEntry(f.Name)
		if !e.Counted {
			return -1
		}
		return e.Left
	}
	slices.SortStableFunc(twins, func(a, b fat.File) int { return rank(a) - rank(b) })
	var out []string
	for _, f := range twins[1:] {
		out = append(out, f.Name)
	}
	return out
}

// running finds the entry that was started. Its counter may have changed
// since, by us; the root that it pins is the one that runs.
func (p Partition) running(entries []Entry) *Entry {
	was, is := parseEntry(p.Running)
	if !is {
		return nil
	}
	for i := range entries {
		if e := &entries[i]; strings.EqualFold(e.Base, was.Base) && strings.EqualFold(e.Image.RootHash, p.RootHash) {
			return e
		}
	}
	return nil
}

// Try implements Store.
func (p Partition) Try(c Candidate) error {
	return p.open(func(v *fat.Volume, b *Boot) error {
		b, err := p.tidy(v, b)
		if err != nil {
			return err
		}
		base := layout.UKIName(c.Image.Version)
		next := Entry{File: counted(base, tries, 0), Base: base, Counted: true, Left: tries, Size: c.Size, Image: c.Image}
		plan, err := planTry(b, next, c.Size)
		if err != nil {
			return err
		}
		return apply(v, plan, &c)
	})
}

// tidy removes what interrupted changes have left.
func (p Partition) tidy(v *fat.Volume, b *Boot) (*Boot, error) {
	if err := apply(v, b.twins, nil); err != nil {
		return nil, err
	}
	if _, err := v.Reclaim(); err != nil {
		return nil, err
	}
	return p.look(v)
}

// Settle implements Store.
func (p Partition) Settle(verdict Verdict) error {
	return p.open(func(v *fat.Volume, b *Boot) error {
		// What an interrupted change has left goes first; if it cannot, the
		// verdict counts more.
		if tidied, err := p.tidy(v, b); err == nil {
			b = tidied
		}
		plan, err := planSettle(b, verdict)
		if err != nil {
			return err
		}
		return apply(v, plan, nil)
	})
}

func apply(v *fat.Volume, plan []op, c *Candidate) error {
	for _, o := range plan {
		var err error
		switch o.kind {
		case opForget:
			err = v.Forget(layout.ESPUKIDir, o.file)
		case opRemove:
			err = v.Remove(layout.ESPUKIDir, o.file)
		case opRename:
			err = v.Rename(layout.ESPUKIDir, o.file, o.to)
		case opCreate:
			err = c.write(v, o.file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write puts the image on the boot partition. Its name comes last, and only if
// what was read was what it should be.
func (c *Candidate) write(v *fat.Volume, name string) error {
	sum := sha256.New()
	r := io.TeeReader(io.NewSectionReader(c.Content, 0, c.Size), sum)
	checked := &lastCheck{r: r, left: c.Size, ok: func() bool { return bytes.Equal(sum.Sum(nil), c.SHA256[:]) }}
	if err := v.Create(layout.ESPUKIDir, name, checked, c.Size, c.Now); err != nil {
		return err
	}
	return reread(v, name, c)
}

// lastCheck fails the read of the last bytes if all of them are not right.
type lastCheck struct {
	r    io.Reader
	left int64
	ok   func() bool
}

func (l *lastCheck) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left == 0 && !l.ok() {
		return 0, errors.New("the staged kernel image is not what its header says")
	}
	return n, err
}

// reread compares what is on the disk, and removes it if the disk lies.
func reread(v *fat.Volume, name string, c *Candidate) error {
	files, err := v.List(layout.ESPUKIDir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(files, func(f fat.File) bool { return f.Name == name })
	if i < 0 {
		return fmt.Errorf("read %s back: %w", name, fs.ErrNotExist)
	}
	r, err := v.Read(files[i])
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil || !bytes.Equal(sum.Sum(nil), c.SHA256[:]) {
		return errors.Join(fmt.Errorf("read %s back from the boot partition: it is not what was written: %v", name, err), v.Remove(layout.ESPUKIDir, name))
	}
	return nil
}
