package slots

import (
	"fmt"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
)

// SlotPartition is the boot partition of a board that U-Boot starts: two
// kernel images with fixed names, and the record that says which of them
// boots. Its methods are those of Loader.
type SlotPartition struct {
	ESP      func(use func(d gpt.Disk, size int64) error) error
	RootHash string // hex, of the running root: it tells which of the two runs
}

// volume is the boot partition while it is open.
type volume struct {
	*fat.Volume
	d      gpt.Disk
	record layout.BootRecord
	at     int // copy that record is from, -1 if there is none
	boot   *Boot
}

func (p SlotPartition) open(use func(v *volume) error) error {
	return p.ESP(func(d gpt.Disk, size int64) error {
		f, err := fat.Open(d, size)
		if err != nil {
			return err
		}
		v := &volume{Volume: f, d: d}
		if err := p.look(v); err != nil {
			return err
		}
		return use(v)
	})
}

// Look implements Loader.
func (p SlotPartition) Look() (b *Boot, err error) {
	err = p.open(func(v *volume) error { b = v.boot; return nil })
	return b, err
}

func (p SlotPartition) look(v *volume) error {
	var copies [2][]byte
	for i, at := range layout.BootRecordSectors {
		copies[i] = make([]byte, layout.BootRecordSize)
		if _, err := v.d.ReadAt(copies[i], at*layout.BootRecordSize); err != nil {
			return fmt.Errorf("read the boot record: %w", err)
		}
	}
	var why error
	if v.record, v.at, why = layout.NewestBootRecord(copies); why != nil {
		// So does the boot script, which then starts the first image.
		v.record = layout.BootRecord{Trial: layout.NoTrial}
	}
	found, err := v.images()
	if err != nil {
		return err
	}
	v.boot = &Boot{Free: v.Free(), Entries: slotEntries(found, v.record)}
	for i := range v.boot.Entries {
		if e := &v.boot.Entries[i]; strings.EqualFold(e.Image.RootHash, p.RootHash) {
			v.boot.Running = e
			break
		}
	}
	return nil
}

// images reads the two kernel images, by index of layout.ESPSlots.
func (v *volume) images() (found [2]*Entry, err error) {
	files, err := v.List(layout.ESPUKIDir)
	if err != nil {
		return found, err
	}
	for _, f := range files {
		i := indexOf(f.Name)
		if i < 0 || f.Folder {
			continue
		}
		e := &Entry{File: layout.ESPSlots[i], Base: layout.ESPSlots[i], Size: f.Size}
		r, err := v.Read(f)
		if err == nil {
			e.Image, err = ReadImage(r)
		}
		if err != nil {
			e.Broken = err.Error()
		}
		found[i] = e
	}
	return found, nil
}

// write puts a record into the place of the older copy. It is one sector, and
// a torn one leaves the other copy to count.
func (v *volume) write(r layout.BootRecord) error {
	r.Sequence = v.record.Sequence + 1
	to := 0
	if v.at == 0 {
		to = 1
	}
	if _, err := v.d.WriteAt(r.Encode(), layout.BootRecordSectors[to]*layout.BootRecordSize); err != nil {
		return fmt.Errorf("write the boot record: %w", err)
	}
	if err := v.d.Sync(); err != nil {
		return fmt.Errorf("write the boot record: %w", err)
	}
	v.record, v.at = r, to
	return nil
}

// Try implements Loader. Nothing points at the other image while it is
// replaced; the record, written last, is what makes it boot.
func (p SlotPartition) Try(c Candidate) error {
	return p.open(func(v *volume) error {
		run := v.boot.Running
		switch {
		case run == nil:
			return ErrNotKnown
		case run.Counted:
			return refuse("%s is itself on trial", run.Image.Version)
		}
		good := indexOf(run.File)
		if v.at < 0 || v.record.Good != good || v.record.Trial != layout.NoTrial {
			if err := v.write(layout.BootRecord{Good: good, Trial: layout.NoTrial}); err != nil {
				return err
			}
		}
		name := layout.ESPSlots[1-good]
		if err := v.Remove(layout.ESPUKIDir, name); err != nil {
			return err
		}
		if _, err := v.Reclaim(); err != nil {
			return err
		}
		if v.Free() < c.Size {
			return fullError(&Boot{}, c.Size, v.Free())
		}
		if err := c.write(v.Volume, name); err != nil {
			return err
		}
		return v.write(layout.BootRecord{Good: good, Trial: 1 - good, Left: layout.BootTries})
	})
}

// Settle implements Loader.
func (p SlotPartition) Settle(verdict Verdict) error {
	return p.open(func(v *volume) error {
		next, err := planRecord(v.boot, v.record, verdict)
		if err != nil || v.at >= 0 && next == v.record {
			return err
		}
		return v.write(next)
	})
}
